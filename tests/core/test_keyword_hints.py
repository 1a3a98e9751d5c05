"""Keywords of other libraries: the error names the word of this one, which works."""

from __future__ import annotations

import inspect
import re

import pytest

import polymodal
from polymodal.core.keyword_hints import _WORDS, keyword_hint
from polymodal.experiments.arguments import as_recipe
from polymodal.recipe.recipe import Recipe

PARAMETERS = list(inspect.signature(polymodal.fit).parameters)


@pytest.mark.parametrize("word", sorted(set(_WORDS) - set(PARAMETERS)))
def test_each_word_leads_to_an_argument_or_a_key_of_the_recipe(word: str) -> None:
    hint = keyword_hint(word, PARAMETERS)
    if key := re.search(r"settings=\{'(.+)': ...\}", hint):
        found: object = Recipe()
        for part in key[1].split("."):
            found = getattr(found, part)
    else:
        assert re.fullmatch(r"its name here is '(\w+)'", hint), hint


def test_the_error_of_fit_names_the_word() -> None:
    with pytest.raises(
        TypeError, match=r"fit\(\) got an unexpected keyword argument 'label'; its name here is 'target'"
    ):
        polymodal.fit({"a": [1]}, label="a")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"'epochs'; give settings=\{'training.epochs': \.\.\.\}"):
        polymodal.fit({"a": [1]}, "a", epochs=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="'targt'; did you mean 'target'"):
        polymodal.fit({"a": [1]}, targt="a")  # type: ignore[call-arg]


def test_settings_are_dotted_or_nested() -> None:
    nested = as_recipe(None, {"training": {"epochs": 3}, "seed": 5})
    assert (
        nested == as_recipe(None, {"training.epochs": 3, "seed": 5}) == as_recipe(None, ["training.epochs=3", "seed=5"])
    )
