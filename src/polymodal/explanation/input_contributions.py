"""Contributions of the inputs of a model to its predictions: Shapley values over the subsets of inputs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from polymodal.data.partition import Split
from polymodal.explanation.explained_value import ExplainedValue, Scale
from polymodal.explanation.shapley import ShapleyValues, shapley_values
from polymodal.preparation.preparation import PreparedTable

if TYPE_CHECKING:
    from polymodal.inference.ensemble_predictor import PredictsSplits

#: Rows of a block whose subsets are predicted together.
BLOCK_ROWS = 256


@dataclass(frozen=True)
class MeanContribution:
    """The contribution of one input to the predictions of many rows.

    mean: signed, with the standard error `standard_error` over the rows
    mean_absolute: the mean size
    share: the part of this input in the sizes of all inputs, from 0 to 1
    """

    input: str
    mean: float
    standard_error: float
    mean_absolute: float
    share: float


@dataclass(frozen=True)
class InputContributions:
    """How much each input contributes to the prediction of each row.

    The contributions of a row sum to `predicted - empty`. A missing input contributes 0. The contribution of an input
    is its Shapley value: the mean change of the prediction when it joins a random subset of the other inputs. Inputs
    outside of the subset count as missing.

    targets: the explained class, label or column of each row
    values: `[rows, inputs]`, signed, on `scale`
    empty: `[rows]`, the prediction without any input
    predicted: `[rows]`, the prediction with all inputs
    interactions: `[rows, inputs, inputs]`, the Shapley interaction index of each pair: how much more both together
        change the prediction than each alone; for two inputs f(a, b) - f(a) - f(b) + f(). None beyond 8 inputs
    standard_errors: `[rows, inputs]`, of contributions that are sampled, beyond 8 inputs; None if they are exact
    num_subsets: the number of subsets that were predicted; each input was encoded once
    seconds: the time of the computation
    notes: where these numbers should be read with care, one sentence each
    """

    output: str
    scale: Scale
    inputs: tuple[str, ...]
    targets: tuple[Any, ...]
    values: np.ndarray
    empty: np.ndarray
    predicted: np.ndarray
    interactions: np.ndarray | None
    standard_errors: np.ndarray | None
    num_subsets: int
    seconds: float
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.values)

    @property
    def completeness_gap(self) -> float:
        """The largest difference of a row between the sum of the contributions and `predicted - empty`."""
        return float(np.abs(self.values.sum(axis=1) - self.predicted + self.empty).max(initial=0.0))

    def means(self) -> list[MeanContribution]:
        """The contribution of each input over all rows, the largest first."""
        sizes = np.abs(self.values).mean(axis=0) if len(self) else np.zeros(len(self.inputs))
        total = sizes.sum()
        found = []
        for at, name in enumerate(self.inputs):
            own = self.values[:, at]
            error = float(own.std(ddof=1) / np.sqrt(len(own))) if len(own) > 1 else float("nan")
            mean = float(own.mean()) if len(own) else float("nan")
            found.append(
                MeanContribution(name, mean, error, float(sizes[at]), float(sizes[at] / total) if total else 0.0)
            )
        return sorted(found, key=lambda one: -one.mean_absolute)


def input_contributions(
    predictor: PredictsSplits,
    blocks: Iterable[Split[PreparedTable]],
    explained: ExplainedValue,
    notes: Sequence[str] = (),
) -> InputContributions:
    """The contributions of all inputs to the predictions of prepared rows; see `InputContributions`.

    blocks: each is encoded once, and all its predictions are in memory at once

    Only the fusion and the decoders run for every subset of inputs.
    """
    started = time.perf_counter()
    inputs = tuple(predictor.preparation.modalities)
    found: list[ShapleyValues] = []
    positions: list[np.ndarray] = []
    for rows in blocks:
        some, own = _block(predictor, rows, explained)
        found.append(some)
        positions.append(own)
    labels = explained.task.class_labels
    return InputContributions(
        output=explained.output,
        scale=explained.scale,
        inputs=inputs,
        targets=tuple(labels[at] for at in np.concatenate([np.zeros(0, np.int64), *positions])),
        values=np.concatenate([np.zeros((0, len(inputs))), *(one.values for one in found)]),
        empty=np.concatenate([np.zeros(0), *(one.empty for one in found)]),
        predicted=np.concatenate([np.zeros(0), *(one.full for one in found)]),
        interactions=_joined([one.interactions for one in found]),
        standard_errors=_joined([one.standard_errors for one in found]),
        num_subsets=found[0].num_subsets if found else 0,
        seconds=time.perf_counter() - started,
        notes=tuple(notes),
    )


def _block(
    predictor: PredictsSplits, rows: Split[PreparedTable], explained: ExplainedValue
) -> tuple[ShapleyValues, np.ndarray]:
    """The Shapley values of some rows, and the positions of their explained values."""
    inputs = list(predictor.preparation.modalities)
    positions = np.zeros(0, np.int64)

    def value(subsets: np.ndarray) -> np.ndarray:
        nonlocal positions
        hidden = [frozenset(name for name, shown in zip(inputs, one, strict=True) if not shown) for one in subsets]
        each = predictor.predict_each(rows, hidden, with_texts=False)
        raw = [one[explained.output].values for one in each]
        positions = explained.positions(raw[hidden.index(frozenset())])
        return np.stack([explained.of(one, positions) for one in raw])

    return shapley_values(value, len(inputs)), positions


def _joined(parts: Sequence[np.ndarray | None]) -> np.ndarray | None:
    known = [part for part in parts if part is not None]
    return np.concatenate(known) if known else None
