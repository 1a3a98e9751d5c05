"""Generated dialogues: what is said is what the picture shows, and a later question means nothing by itself."""

from collections import defaultdict

import numpy as np

from polymodal.datasets.dialogue import COLORS, COUNTS, SECOND, SHAPES, THIRD, make_dialogues


def test_dialogues_are_repeatable() -> None:
    one, two = make_dialogues(10, seed=3), make_dialogues(10, seed=3)
    assert {name: cells for name, cells in one.items() if name != "image"} == {
        name: cells for name, cells in two.items() if name != "image"
    }
    assert all(np.array_equal(a, b) for a, b in zip(one["image"], two["image"], strict=True))
    assert make_dialogues(10, seed=4)["answer"] != one["answer"]


def test_a_history_holds_the_rows_before_it() -> None:
    columns = make_dialogues(30, seed=0)
    for row, (history, question) in enumerate(zip(columns["history"], columns["question"], strict=True)):
        turn = row % 3
        assert columns["scene"][row] == row // 3
        assert columns["image"][row] is columns["image"][row - turn]
        assert [one["content"] for one in history[::2]] == columns["question"][row - turn : row]
        assert [one["content"] for one in history[1::2]] == columns["answer"][row - turn : row]
        assert [one["role"] for one in history] == ["user", "assistant"] * turn
        assert question == [question, SECOND, THIRD][turn]


def test_the_picture_shows_so_many_pixels_of_each_group() -> None:
    """The area of a colour grows with the count that is told of it."""
    columns = make_dialogues(150, seed=1)
    areas: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row in range(0, 450, 3):
        question, answer, count = columns["question"][row], columns["answer"][row], columns["answer"][row + 1]
        shape = next(one for one in SHAPES if one in question + answer)
        colour = next(one for one in COLORS if one in question + answer)
        pixels = np.asarray(columns["image"][row])
        areas[shape, count].append(int((pixels == COLORS[colour]).all(-1).sum()))
    for shape in SHAPES:
        for number, count in enumerate(COUNTS, start=1):
            assert set(areas[shape, count]) == {number * areas[shape, "one"][0]}


def test_later_questions_mean_nothing_without_the_first() -> None:
    """Their words are the same in every scene, and the same picture has another answer for the other group."""
    columns = make_dialogues(300, seed=2)
    second = columns["answer"][1::3]
    third = columns["answer"][2::3]
    assert all(one != other for one, other in zip(second, third, strict=True))
    assert {SECOND} == set(columns["question"][1::3])
    counts = np.array([second.count(name) for name in COUNTS])
    assert counts.min() > 60
