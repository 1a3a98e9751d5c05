"""Generated translations: the picture, and only the picture, tells the meaning of ambiguous words."""

from collections import Counter

import numpy as np

from polymodal.datasets.translations import LANGUAGES, make_translations


def test_translations_are_repeatable() -> None:
    one, two = make_translations(30, seed=2), make_translations(30, seed=2)
    assert one["translation"] == two["translation"]
    assert all(np.array_equal(a, b) for a, b in zip(one["image"], two["image"], strict=True))


def test_ambiguous_sentences_have_two_translations_and_others_one() -> None:
    columns = make_translations(3_000, seed=0)
    meanings: dict[tuple[str, str], Counter[str]] = {}
    for source, language, translation in zip(
        *(columns[name] for name in ("source", "language", "translation")), strict=True
    ):
        meanings.setdefault((source, language), Counter())[translation] += 1
    assert {language for _, language in meanings} == set(LANGUAGES)
    for (source, _), found in meanings.items():
        assert len(found) == (2 if "crane" in source or "seal" in source else 1)
    ambiguous = [found for found in meanings.values() if len(found) == 2]
    best = sum(max(found.values()) for found in ambiguous) / sum(found.total() for found in ambiguous)
    assert best < 0.65  # of each pair the more frequent, chosen with hindsight


def test_the_picture_tells_the_meaning() -> None:
    """A square fills the corners of its box, a circle does not."""
    columns = make_translations(300, seed=1, ambiguous_ratio=1.0)
    animals = ("Kranich", "Seehund", "журавль", "тюлень")
    for image, translation in zip(columns["image"], columns["translation"], strict=True):
        dark = np.asarray(image).astype(int).max(2) < 121
        box = np.ix_(np.flatnonzero(dark.any(1)), np.flatnonzero(dark.any(0)))
        filled = dark[box].mean()
        assert (filled < 0.9) == any(word in translation for word in animals)
