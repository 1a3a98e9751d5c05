"""`python -m benchmarks.interval_coverage`: how often a 95 % interval of a score holds the true score.

Rows of known distributions are drawn many times. The scores of all resamples are computed for many draws at once by
sums over rows; the interval is that of the package.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from benchmarks.record import Record, run_study
from polymodal.evaluation.intervals import percentiles, t_interval
from polymodal.evaluation.score_scale import ScoreScale
from polymodal.metrics.base import POSITIVE, UNIT

#: Draws of a scenario in one batch, batches, and resamples of each draw.
DRAWS, BATCHES, RESAMPLES = 500, 4, 1000
CONFIDENCE = 0.95
#: Correlation of the rows of a cluster, and signal of the regressions, in standard deviations of their error.
WITHIN, SIGNAL = 0.4, 1.5

#: Weights of the units `[n, units]` -> scores `[n, draws]`.
Scores = Callable[[np.ndarray], np.ndarray]
Generator = np.random.Generator

ERRORS: dict[str, Callable[[Generator, tuple[int, ...]], np.ndarray]] = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "uniform": lambda rng, shape: rng.uniform(-math.sqrt(3), math.sqrt(3), size=shape),
    "skewed (exponential)": lambda rng, shape: rng.exponential(size=shape) - 1,
    "heavy tails (Laplace)": lambda rng, shape: rng.laplace(scale=math.sqrt(0.5), size=shape),
}


@dataclass(frozen=True)
class Rows:
    """`units` independent rows, or clusters of `size` rows each."""

    name: str
    units: int
    size: int = 1

    def errors(self, rng: Generator, draws: int, of: str) -> np.ndarray:
        """Errors of variance 1, `[draws, rows]`, with the correlation `WITHIN` in a cluster."""
        draw, shape = ERRORS[of], (draws, self.units * self.size)
        if self.size == 1:
            return draw(rng, shape)
        shared = np.repeat(draw(rng, (draws, self.units)), self.size, axis=1)
        return math.sqrt(WITHIN) * shared + math.sqrt(1 - WITHIN) * draw(rng, shape)

    def sums(self, values: np.ndarray) -> np.ndarray:
        """The sums over the rows of each unit, `[units, draws]`."""
        return values.reshape(len(values), self.units, self.size).sum(2).T


ROWS = (Rows("40 rows", 40), Rows("10 clusters of 8 rows", 10, 8))


@dataclass(frozen=True)
class Scenario:
    """A metric on one distribution of rows.

    draw: the scores of `draws` tables
    """

    name: str
    rows: Rows
    truth: float
    bounds: tuple[float, float]
    draw: Callable[[Generator, int], Scores]


def scenarios() -> list[Scenario]:
    """Every metric on every distribution of rows."""
    found = []
    for rows in ROWS:
        for errors in ERRORS:
            found += _regression(rows, errors)
        found += [_roc_auc(rows, auc) for auc in (0.7, 0.85, 0.95)]
        found += [_accuracy(rows, accuracy) for accuracy in (0.6, 0.8, 0.9)]
        found.append(_difference(rows))
    return found


def coverage(scenario: Scenario, rng: Generator, draws: int) -> tuple[float, float]:
    """The fraction of draws whose bootstrap t interval holds the true score, and that of the percentile interval."""
    units = scenario.rows.units
    scores, scale = scenario.draw(rng, draws), ScoreScale(*scenario.bounds)
    drawn = np.stack([np.bincount(rng.integers(units, size=units), minlength=units) for _ in range(RESAMPLES)])
    with np.errstate(invalid="ignore", divide="ignore"):
        value = scores(np.ones((1, units)))[0]
        resampled, left_out = scores(drawn.astype(np.float64)), scores(1.0 - np.eye(units))
    held = np.zeros((draws, 2), bool)
    for draw in range(draws):
        interval, _ = t_interval(
            float(value[draw]),
            resampled[:, draw],
            lambda draw=draw: left_out[:, draw],  # type: ignore[misc]
            scale,
            units=units,
            confidence_level=CONFIDENCE,
        )
        ends = [(interval.low, interval.high), percentiles(resampled[:, draw], CONFIDENCE)]
        held[draw] = [low <= scenario.truth + 1e-12 and scenario.truth - 1e-12 <= high for low, high in ends]
    return float(held[:, 0].mean()), float(held[:, 1].mean())


def _regression(rows: Rows, errors: str) -> list[Scenario]:
    """RMSE, MAE and R2 of predictions with known errors."""
    many = Rows(rows.name, 200_000, rows.size).errors(np.random.default_rng(1), 1, errors)
    absolute = float(np.abs(many).mean())

    def mean(
        of: Callable[[np.ndarray], np.ndarray], after: Callable[[np.ndarray], np.ndarray]
    ) -> Callable[..., Scores]:
        def draw(rng: Generator, draws: int) -> Scores:
            sums = rows.sums(of(rows.errors(rng, draws, errors)))
            return lambda weight: after(weight @ sums / (weight.sum(1, keepdims=True) * rows.size))

        return draw

    def r2(rng: Generator, draws: int) -> Scores:
        error = rows.errors(rng, draws, errors)
        true = SIGNAL * rows.errors(rng, draws, "normal") + error
        parts = [rows.sums(part) for part in (error**2, true, true**2)]

        def score(weight: np.ndarray) -> np.ndarray:
            squared, first, second = (weight @ part / (weight.sum(1, keepdims=True) * rows.size) for part in parts)
            return 1 - squared / (second - first**2)

        return score

    title = f"{errors}, {rows.name}"
    return [
        Scenario(f"RMSE, {title}", rows, 1.0, POSITIVE, mean(np.square, np.sqrt)),
        Scenario(f"MAE, {title}", rows, absolute, POSITIVE, mean(np.abs, np.asarray)),
        Scenario(f"R2, {title}", rows, 1 - 1 / (1 + SIGNAL**2), (-math.inf, 1.0), r2),
    ]


def _roc_auc(rows: Rows, auc: float) -> Scenario:
    """ROC AUC of normal scores, half of the rows positive."""
    shift = math.sqrt(2) * float(ndtri(auc))

    def draw(rng: Generator, draws: int) -> Scores:
        positive = rng.random((draws, rows.units * rows.size)) < 0.5
        score = rows.errors(rng, draws, "normal") + shift * positive
        higher = (score[:, :, None] > score[:, None, :]) & positive[:, :, None] & ~positive[:, None, :]
        shape = (draws, rows.units, rows.size, rows.units, rows.size)
        pairs = higher.reshape(shape).sum((2, 4)).astype(np.float64)
        positives, negatives = rows.sums(positive.astype(float)), rows.sums((~positive).astype(float))

        def scores(weight: np.ndarray) -> np.ndarray:
            wins = np.stack([((weight @ one) * weight).sum(1) for one in pairs], axis=1)
            return wins / ((weight @ positives) * (weight @ negatives))

        return scores

    return Scenario(f"ROC AUC {auc:g}, {rows.name}", rows, auc, UNIT, draw)


def _accuracy(rows: Rows, accuracy: float) -> Scenario:
    def draw(rng: Generator, draws: int) -> Scores:
        sums = rows.sums((rows.errors(rng, draws, "normal") < ndtri(accuracy)).astype(float))
        return lambda weight: weight @ sums / (weight.sum(1, keepdims=True) * rows.size)

    return Scenario(f"accuracy {accuracy:g}, {rows.name}", rows, accuracy, UNIT, draw)


def _difference(rows: Rows) -> Scenario:
    """The difference of the accuracies of two models, 0.8 and 0.7, with correlated errors."""

    def draw(rng: Generator, draws: int) -> Scores:
        hard = rows.errors(rng, draws, "normal")
        own = [np.sqrt(0.5) * hard + np.sqrt(0.5) * rng.normal(size=hard.shape) for _ in range(2)]
        right = [(one < ndtri(accuracy)).astype(float) for one, accuracy in zip(own, (0.8, 0.7), strict=True)]
        sums = rows.sums(right[0] - right[1])
        return lambda weight: weight @ sums / (weight.sum(1, keepdims=True) * rows.size)

    return Scenario(f"difference of two accuracies, {rows.name}", rows, 0.1, (-math.inf, math.inf), draw)


def measure(draws: int = DRAWS, batches: int = BATCHES) -> Record:
    """The coverage of every scenario."""
    record = Record(
        name="interval_coverage",
        title="Coverage of the intervals of scores",
        method=(
            f"The fraction of {batches * draws:,} drawn tables whose 95 % interval holds the true score, in {batches} "
            f"batches; {RESAMPLES:,} resamples for each table. The tables have 40 independent rows, or 10 clusters of "
            f"8 rows with a correlation of {WITHIN:g} in a cluster. `percentile` is the interval between the quantiles "
            "of the resamples, for comparison."
        ),
        unit="coverage",
        larger_is_better=True,
    )
    for number, scenario in enumerate(scenarios()):
        rng = np.random.default_rng(number)
        pairs = [coverage(scenario, rng, draws) for _ in range(batches)]
        record.values[scenario.name] = [ours for ours, _ in pairs]
        record.values[f"{scenario.name} (percentile)"] = [percentile for _, percentile in pairs]
    ours = {name: float(np.mean(values)) for name, values in record.values.items() if "(percentile)" not in name}
    kept = {name: value for name, value in ours.items() if 0.93 <= value <= 0.97}
    record.facts["scenarios with a coverage from 93 to 97 %"] = f"{len(kept)} of {len(ours)}"
    outside = [f"{name}: {value:.3f}" for name, value in ours.items() if name not in kept]
    record.facts["other scenarios"] = outside or ["none"]
    return record


if __name__ == "__main__":
    run_study(measure)
