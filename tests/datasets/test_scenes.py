"""Generated scenes: what the caption says is what the boxes and the picture hold."""

import numpy as np
import pytest

from polymodal.datasets.scenes import Box, caption_facts, describe, make_scenes


def test_scenes_are_repeatable_and_have_one_caption_each() -> None:
    one, two = make_scenes(20, seed=3), make_scenes(20, seed=3)
    assert one["caption"] == two["caption"]
    assert all(np.array_equal(a, b) for a, b in zip(one["image"], two["image"], strict=True))
    assert one["caption"] != make_scenes(20, seed=4)["caption"]
    assert len(set(one["caption"])) > 15


def test_the_facts_of_a_caption_are_those_of_its_boxes() -> None:
    for caption, records in zip(
        *(make_scenes(200, seed=0, max_figures=5)[name] for name in ("caption", "boxes")), strict=True
    ):
        boxes = [Box(**record) for record in records]
        nouns = [box.noun for box in boxes]
        stated = caption_facts(caption)
        assert {fact for fact in stated if len(fact) == 1} == {(noun,) for noun in nouns}
        assert {fact for fact in stated if len(fact) == 2} == {(noun, str(nouns.count(noun))) for noun in nouns}
        for one, relation, other in (fact for fact in stated if len(fact) == 3):
            start, end = ("left", "right") if relation == "left of" else ("top", "bottom")
            ends = [getattr(box, end) for box in boxes if box.noun == one]
            assert max(ends) <= min(getattr(box, start) for box in boxes if box.noun == other)


def test_the_picture_shows_what_the_boxes_say() -> None:
    columns = make_scenes(30, seed=1)
    inks = {"red": 0, "green": 1, "blue": 2}
    for image, records in zip(columns["image"], columns["boxes"], strict=True):
        pixels = np.asarray(image).astype(int)
        for record in records:
            colour = record["noun"].split()[0]
            if colour in inks:
                middle = pixels[(record["top"] + record["bottom"]) // 2, (record["left"] + record["right"]) // 2]
                assert middle.argmax() == inks[colour]
                assert middle.min() < 100


@pytest.mark.parametrize(
    ("boxes", "caption"),
    [
        ([Box("cat", 0, 0, 9, 9)], "a cat."),
        ([Box("cat", 0, 0, 9, 9), Box("axe", 20, 5, 29, 14)], "an axe and a cat. the axe is right of the cat."),
        ([Box("fish", 0, 0, 9, 9), Box("fish", 0, 20, 9, 29)], "two fishes."),
        ([Box("house", 0, 0, 9, 9), Box("house", 0, 20, 9, 29)], "two houses."),
        (
            [Box("dog", 0, 0, 9, 9), Box("dog", 20, 0, 29, 9), Box("fox", 5, 40, 14, 49)],
            "two dogs and a fox. the dogs are above the fox.",
        ),
        ([Box("dog", 0, 0, 9, 9), Box("dog", 20, 20, 29, 29), Box("fox", 10, 10, 19, 19)], "two dogs and a fox."),
    ],
)
def test_captions(boxes: list[Box], caption: str) -> None:
    assert describe(boxes) == caption
    assert {(box.noun,) for box in boxes} <= caption_facts(caption)


def test_mirrored_relations_are_one_fact() -> None:
    assert ("cat", "left of", "axe") in caption_facts("an axe and a cat. the axe is right of the cat.")
    assert caption_facts("an ax. the ax is below the cat.") == {("ax",), ("ax", "1"), ("cat", "above", "ax")}


@pytest.mark.parametrize("text", ["", ".", "hello world", "the is the", "two", "a. the cat is the dog", "and and,"])
def test_any_text_can_be_read(text: str) -> None:
    assert caption_facts(text) == set()
