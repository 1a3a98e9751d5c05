"""A model of all inputs is not returned where a model of a single input validates better."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import polymodal
from polymodal.core.errors import ArtifactError

SETTINGS = {
    "hidden_size": 32,
    "training.epochs": 30,
    "training.batch_size": 16,
    "training.learning_rate": 0.01,
    "training.num_threads": 1,
    "training.precision": "fp32",
    "evaluation.bootstrap_samples": 0,
}
WORDS = [f"{first}{second}" for first in "bdgklmnprst" for second in ("ala", "eno", "iri", "oto", "usu")]


def table(rows: int, seed: int, *, text_matters: bool = False) -> dict[str, list[Any]]:
    """A class that mostly follows a number, and three texts of random words, by which a network learns the rows by
    heart; or a class that follows the number and one word."""
    draw = np.random.default_rng(seed)
    x, said = draw.normal(size=rows), draw.integers(2, size=rows)
    columns: dict[str, list[Any]] = {"x": x.tolist()}
    for name in ("text",) if text_matters else ("text", "title", "note"):
        words = [" ".join(draw.choice(WORDS, 8)) for _ in range(rows)]
        columns[name] = [f"{one} yes" if text_matters and yes else one for one, yes in zip(words, said, strict=True)]
    score = x + 2 * (said - 0.5) if text_matters else x + 0.5 * draw.normal(size=rows)
    return {**columns, "kind": ["high" if one > 0 else "low" for one in score]}


def trained(folder: Path | None = None, *, text_matters: bool = False, **keywords: Any) -> polymodal.Model:
    rows = 300 if text_matters else 60
    data, validation = (table(count, seed, text_matters=text_matters) for count, seed in ((rows, 0), (400, 1)))
    encoders = {f"inputs.{name}.encoder": "embedding_bag" for name in data if name not in ("x", "kind")}
    settings = SETTINGS | encoders
    return polymodal.fit(data, "kind", validation=validation, settings=settings, out=folder, **keywords)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[polymodal.Model, Path]:
    folder = tmp_path_factory.mktemp("single") / "model"
    return trained(folder), folder


def test_the_better_input_is_returned_and_told(alone: tuple[polymodal.Model, Path]) -> None:
    model, folder = alone
    assert list(model.recipe.inputs) == ["x"]
    assert model.run.single_input == "x"
    (notice,) = [one for one in model.run.notices if "validates better" in one]
    assert "'x' alone" in notice
    assert "The model of 'x' is returned" in notice
    assert [one.column for one in model.run.roles if one.role == "input"] == ["x"]
    assert "alone validates better" in (folder / "report.html").read_text()
    loaded = polymodal.load(folder)
    rows = {"x": [1.5, -1.5]}
    assert loaded.predict(rows) == model.predict(rows) == ["high", "low"]


def test_a_complete_run_is_read_back(alone: tuple[polymodal.Model, Path]) -> None:
    _, folder = alone
    assert trained(folder, resume=True).run.single_input == "x"
    with pytest.raises(ArtifactError, match="another recipe"):
        trained(folder, resume=True, recipe={"training": {"gradient_clip": 0.5}})


def test_a_recipe_that_names_the_inputs_is_obeyed_and_told() -> None:
    model = trained(recipe={"inputs": {"text": "text", "title": "text", "note": "text", "x": "number"}})
    assert len(model.recipe.inputs) == 4
    assert not model.run.single_input
    (notice,) = [one for one in model.run.notices if "validates better" in one]
    assert "because the recipe names them" in notice


def test_inputs_that_help_each_other_are_all_kept() -> None:
    model = trained(text_matters=True)
    assert len(model.recipe.inputs) == 2
    assert not [one for one in model.run.notices if "validates better" in one]
