"""The recipes for code that come with the package train on their generated sets, write, and are scored by running."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import polymodal
from polymodal.datasets.functions import make_functions
from polymodal.datasets.pages import make_pages
from polymodal.datasets.planted import Columns
from polymodal.datasets.repairs import make_repairs, make_test_suites

SETTINGS = ["training.epochs=1", "training.precision=fp32", "training.num_threads=1", "evaluation.bootstrap_samples=20"]


@pytest.mark.parametrize(
    ("recipe", "make", "target", "scores"),
    [
        ("screenshot_to_code", make_pages, "html", {"element_f1", "page_similarity", "page_validity", "exact_match"}),
        ("code_from_description", make_functions, "answer", {"pass@1", "syntax_validity", "exact_match"}),
        ("code_repair", make_repairs, "answer", {"pass@1", "syntax_validity", "exact_match"}),
        ("code_tests", make_test_suites, "answer", {"mutation_score", "suite_validity", "syntax_validity"}),
    ],
)
def test_the_recipe_trains_writes_and_is_scored(
    recipe: str, make: Callable[[int, int], Columns], target: str, scores: set[str]
) -> None:
    model = polymodal.fit(
        make(60, 0), recipe=recipe, settings=[*SETTINGS, f"outputs.{target}.task.max_target_length=8"]
    )
    found = model.metrics["test"][target]
    assert scores <= found.keys()
    assert all(0 <= found[name]["value"] <= 1 for name in scores)
    new = make(2, 1)
    assert all(isinstance(text, str) for text in model.predict({name: new[name] for name in model.recipe.inputs}))
