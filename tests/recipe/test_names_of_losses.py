"""Outputs and objectives have names of their own: the losses of a step are kept by name."""

from __future__ import annotations

import pytest

import polymodal
from polymodal.core.errors import RecipeError


@pytest.mark.parametrize("name", ["contrastive", "contrastive.2"])
def test_an_output_with_the_name_of_an_objective_is_refused(name: str) -> None:
    rows = [{"a": f"word{i} here", "b": f"text{i} there", name: "pn"[i % 2]} for i in range(20)]
    recipe = {"inputs": {"a": "text", "b": "text"}, "objectives": [{"name": "contrastive"}]}
    with pytest.raises(RecipeError, match="of this output and of the objective 'contrastive' would have one name"):
        polymodal.fit(rows, name, recipe=recipe, settings=["training.epochs=1", "hidden_size=8"])
