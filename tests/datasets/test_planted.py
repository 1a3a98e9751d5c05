"""Planted data: seeded, and the signal is where the documentation says, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from polymodal.datasets.planted import (
    make_exclusive_or,
    make_mixed,
    make_planted_images,
    make_planted_table,
    make_planted_text,
)


def plain(columns: dict[str, list]) -> dict[str, list]:
    return {name: [c.tobytes() if hasattr(c, "tobytes") else c for c in cells] for name, cells in columns.items()}


@pytest.mark.parametrize(
    "make", [make_exclusive_or, make_mixed, make_planted_images, make_planted_table, make_planted_text]
)
def test_seeded_and_of_the_asked_length(make: Callable[..., dict[str, list]]) -> None:
    one = plain(make(30, seed=1))
    assert {len(cells) for cells in one.values()} == {30}
    assert plain(make(30, seed=1)) == one
    assert plain(make(30, seed=2)) != one


def test_exclusive_or_needs_both_sides() -> None:
    columns = make_exclusive_or(400, seed=0, noise=0.1)
    yes = np.array(columns["target"]) == "yes"
    one, other = np.array(columns["a0"]) > 0, np.array(columns["b0"]) > 0
    assert np.array_equal(yes, one != other)
    for bit in (one, other):
        assert yes[bit].mean() == yes[~bit].mean() == 0.5
    noisy = np.array(make_exclusive_or(400, seed=0, noise=2.0)["a0"])
    assert noisy.std() > 1.5 * np.array(columns["a0"]).std()


def test_each_signal_is_there() -> None:
    text = make_planted_text(50, seed=0)
    words = {
        "animal": {"cat", "dog", "fox"},
        "food": {"bread", "soup", "apple"},
        "tool": {"axe", "saw", "drill"},
    }
    for sentence, topic in zip(text["text"], text["topic"], strict=True):
        hits = {name for name, known in words.items() if known & set(sentence.split())}
        assert hits == {topic}
    pictures = make_planted_images(20, seed=0, size=24)
    for image, colour in zip(pictures["image"], pictures["color"], strict=True):
        assert image.size == (24, 24)
        figure = np.asarray(image).astype(int)
        channel = {"red": 0, "green": 1, "blue": 2}[colour]
        dark = figure[figure.min(axis=2) < 100]
        assert dark.mean(axis=0).argmax() == channel


def test_mixed_needs_every_input() -> None:
    columns = make_mixed(2000, seed=0, missing_ratio=0)
    shown = [
        ("red", "blue")[int(np.asarray(i).astype(int)[..., 2].sum() > np.asarray(i)[..., 0].sum())]
        for i in columns["image"]
    ]
    asked = ["red" if "red" in question.split() else "blue" for question in columns["question"]]
    limit = [0.5 if mode == "strict" else 0.1 for mode in columns["mode"]]
    parts = zip(shown, asked, columns["score"], limit, strict=True)
    rule = ["yes" if one == other and score > least else "no" for one, other, score, least in parts]
    assert rule == columns["answer"]
    assert 0.4 < np.mean([answer == "yes" for answer in rule]) < 0.65
    holes = make_mixed(2000, seed=0)
    assert 0.02 < np.mean([cell is None for name in holes if name != "answer" for cell in holes[name]]) < 0.08
    assert None not in holes["answer"]
