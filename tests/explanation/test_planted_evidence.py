"""Planted evidence is found: each modality has one part that decides the class, and the best method points at it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from polymodal import Model, fit
from polymodal.explanation.row_explanations import Explanation, Explanations

#: Rows of a table, and those from which explained rows are taken.
ROWS, LAST = 480, 30
RATE = 4_000
FILLER = ["the", "of", "near", "some", "old", "new", "day", "road", "house", "tree", "with", "under", "green", "river"]
QUICK: dict[str, Any] = {
    "hidden_size": 16,
    "members": [],
    "training.num_threads": 1,
    "training.precision": "fp32",
    "training.learning_rate": 0.005,
    "evaluation.bootstrap_samples": 0,
    "evaluation.unimodal_scores": "none",
}

#: Whether a part, by its index in `scores`, holds the evidence of a row.
Holds = Callable[[tuple[int, ...]], bool]


@dataclass(frozen=True)
class Planted:
    """A table, and where the evidence of each row is. The class is `up` or `down` by the evidence, and `none` without:
    so both need their evidence, and none is the answer by default."""

    columns: dict[str, list[Any]]
    holds: list[Holds]
    settings: dict[str, Any]

    def training(self) -> dict[str, list[Any]]:
        return {name: cells[: ROWS - LAST] for name, cells in self.columns.items()}

    def shown(self) -> list[int]:
        """The rows that are explained: the last ones with evidence."""
        return [at for at in range(ROWS - LAST, ROWS) if self.columns["class"][at] != "none"]

    def explained(self, model: Model, method: str) -> Explanations:
        rows = {name: [cells[at] for at in self.shown()] for name, cells in self.columns.items()}
        return model.explain(rows, method=method)  # type: ignore[arg-type]


def _classes(draw: np.random.Generator) -> list[str]:
    return draw.permutation(["up", "down", "none"] * (ROWS // 3)).tolist()


def planted_image(draw: np.random.Generator) -> Planted:
    """A patch of 8 x 8 pixels on noise; its color is the class. A region has 4 x 4 pixels."""
    classes, images, holds = _classes(draw), [], []
    for one in classes:
        pixels = draw.integers(90, 160, (32, 32, 3)).astype(np.uint8)
        row, column = (4 * draw.integers(0, 7, 2)).tolist()
        if one != "none":
            pixels[row : row + 8, column : column + 8] = (230, 30, 30) if one == "up" else (30, 30, 230)
        images.append(pixels)
        holds.append(lambda at, r=row, c=column: r <= 4 * at[0] < r + 8 and c <= 4 * at[1] < c + 8)
    return Planted({"input": images, "class": classes}, holds, {"inputs.input": "image", "training.epochs": 8})


def planted_text(draw: np.random.Generator) -> Planted:
    """Twelve words; one of them is the class."""
    classes, texts, places = _classes(draw), [], []
    for one in classes:
        words, place = draw.choice(FILLER, 12).tolist(), int(draw.integers(12))
        words[place] = {"up": "rises", "down": "falls"}.get(one, words[place])
        texts.append(" ".join(words))
        places.append(place)
    holds = [lambda at, place=place: at[0] == place for place in places]
    text = {"modality": "text", "encoder": "lstm"}
    return Planted({"input": texts, "class": classes}, holds, {"inputs.input": text, "training.epochs": 10})


def planted_audio(draw: np.random.Generator) -> Planted:
    """A second of noise with a tone of 0.1 seconds; its pitch is the class."""
    classes, sounds, holds = _classes(draw), [], []
    time = np.arange(RATE // 10) / RATE
    for one in classes:
        sound = 0.02 * draw.normal(size=RATE)
        start = int(draw.integers(0, RATE - len(time)))
        pitch, volume = {"up": (300, 0.4), "down": (1_200, 0.4)}.get(one, (0, 0.0))
        sound[start : start + len(time)] += volume * np.sin(2 * np.pi * pitch * time)
        sounds.append({"array": sound.astype(np.float32), "sampling_rate": RATE})
        span, end = RATE // 20, start + len(time)
        holds.append(lambda at, a=start, b=end, span=span: at[0] * span < b and a < (at[0] + 1) * span)
    audio = {"modality": {"name": "audio", "sampling_rate": RATE}}
    return Planted({"input": sounds, "class": classes}, holds, {"inputs.input": audio, "training.epochs": 8})


def planted_series(draw: np.random.Generator) -> Planted:
    """32 steps of noise in two channels; the sign of a bump of two steps in the first is the class. A zigzag of this
    size in the first channel and a bump in the second mean nothing."""
    classes, series, holds = _classes(draw), [], []
    for one in classes:
        values = 0.3 * draw.normal(size=(32, 2))
        step, zigzag = (draw.integers(15, size=2) + draw.permutation([0, 16])).tolist()
        bump, other = int(draw.integers(31)), draw.choice([-3, 3], 2)
        values[step : step + 2, 0] += {"up": 3, "down": -3}.get(one, 0)
        values[zigzag : zigzag + 2, 0] += other[0] * np.array([1, -1])
        values[bump : bump + 2, 1] += other[1]
        series.append(values)
        holds.append(lambda at, s=step: at[0] in (s, s + 1) and at[1] == 0)
    return Planted({"input": series, "class": classes}, holds, {"inputs.input": "time_series", "training.epochs": 8})


def planted_numbers(draw: np.random.Generator) -> Planted:
    """Six numbers; the class is whether one of them is high or low. Another one is as extreme and means nothing."""
    classes = _classes(draw)
    numbers = draw.normal(size=(ROWS, 6))
    center = np.array([{"up": 3, "down": -3}.get(one, 0) for one in classes])
    numbers[:, 2] = center + 0.5 * numbers[:, 2]
    numbers[:, 4] = 3 * draw.choice([-1, 1], ROWS)
    columns = {f"n{at}": numbers[:, at].tolist() for at in range(6)}
    inputs = {"inputs.input": {"modality": "number", "columns": list(columns)}, "training.epochs": 15}
    return Planted({**columns, "class": classes}, [lambda at: at[0] == 2] * ROWS, inputs)


PLANTED = {
    "image": planted_image,
    "text": planted_text,
    "audio": planted_audio,
    "series": planted_series,
    "numbers": planted_numbers,
}
#: The best method of each modality on these models.
BEST = {
    "image": "integrated_gradients",
    "text": "occlusion",
    "audio": "occlusion",
    "series": "occlusion",
    "numbers": "shapley",
}


class Trained:
    """One small model for each modality, trained when it is first asked for."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Planted, Model]] = {}

    def __call__(self, name: str) -> tuple[Planted, Model]:
        if name not in self._known:
            planted = PLANTED[name](np.random.default_rng(5))
            self._known[name] = planted, fit(planted.training(), "class", settings=QUICK | planted.settings)
        return self._known[name]

    def explained(self, name: str, method: str) -> tuple[Explanations, list[Holds]]:
        planted, model = self(name)
        return planted.explained(model, method), [planted.holds[at] for at in planted.shown()]


@pytest.fixture(scope="module")
def trained() -> Trained:
    return Trained()


def points_at_evidence(one: Explanation, holds: Holds) -> bool:
    """The pointing game: whether the part with the largest score holds the evidence."""
    return holds(tuple(int(at) for at in np.unravel_index(one.scores.argmax(), one.scores.shape)))


def pointing_game(found: Explanations, holds: list[Holds]) -> float:
    return float(np.mean([points_at_evidence(one, holds[one.row]) for one in found]))


def relevance_mass(found: Explanations, holds: list[Holds]) -> float:
    """The part of the positive scores that lies on the evidence."""
    shares = []
    for one in found:
        positive = np.maximum(one.scores, 0)
        inside = sum(positive[at] for at in np.ndindex(positive.shape) if holds[one.row](at))
        shares.append(inside / positive.sum())
    return float(np.mean(shares))


@pytest.mark.parametrize("name", PLANTED)
def test_the_best_method_points_at_the_evidence(trained: Trained, name: str) -> None:
    found, holds = trained.explained(name, BEST[name])
    assert len(found) == len(holds)
    assert pointing_game(found, holds) >= 0.9
    assert relevance_mass(found, holds) >= 0.6
    assert found.gains[0].better


@pytest.mark.parametrize("name", PLANTED)
def test_explanations_of_a_randomized_model_do_not_point_at_it(trained: Trained, name: str) -> None:
    planted, model = trained(name)
    network = copy.deepcopy(model.network)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            order = torch.randperm(parameter.numel(), generator=draw)
            parameter.copy_(parameter.flatten()[order].view_as(parameter))
    randomized = Model(model.recipe, model.preparation, network)
    found = planted.explained(randomized, BEST[name])
    game = pointing_game(found, [planted.holds[at] for at in planted.shown()])
    assert game < 0.6


@pytest.mark.parametrize("name", ["image", "series", "numbers"])
def test_integrated_gradients_are_complete_and_point_at_the_evidence(trained: Trained, name: str) -> None:
    found, holds = trained.explained(name, "integrated_gradients")
    gaps = [one.completeness_gap / max(1.0, abs(one.predicted - one.empty)) for one in found]
    assert np.median(gaps) < 0.1
    assert pointing_game(found, holds) >= 0.7
