"""Zero-shot: classes held out of training are named by aligned texts, and by shuffled ones they are not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from laws.samples import trained
from planted_pairs import HELD_OUT, PICTURE, TEMPLATES, aligned, planted_pairs
from polymodal.applications.few_shot.zero_shot import ZeroShot, class_prompts
from polymodal.cli.commands import app
from polymodal.core.errors import DataError, PolymodalError, RecipeError
from polymodal.data.table.cell_errors import BadCellsWarning
from polymodal.model.model import Model


def test_classes_never_seen_are_named() -> None:
    rows = planted_pairs(HELD_OUT, 100, seed=5)
    classifier = ZeroShot(aligned(), HELD_OUT, templates=TEMPLATES, target="what")
    assert (classifier.input, classifier.text) == ("picture", "caption")
    accuracy = classifier.evaluate(rows)["what"]["accuracy"]
    assert accuracy["low"] > 0.7
    assert accuracy["p_value"] < 1e-9
    assert (accuracy["chance_level"], accuracy["baseline"], accuracy["rows"]) == (0.2, 0.2, 100)
    answers = classifier.predict(rows)
    assert accuracy["correct"] == sum(one == other for one, other in zip(answers, rows["what"], strict=True))
    assert accuracy["value"] == accuracy["correct"] / 100


def test_shuffled_pairs_give_chance_accuracy() -> None:
    classifier = ZeroShot(aligned(shuffled=True), HELD_OUT, target="what")
    scores = classifier.evaluate(planted_pairs(HELD_OUT, 100, seed=5))
    assert scores["what"]["accuracy"]["value"] < 0.5


def test_probabilities_are_those_of_the_temperature() -> None:
    model, rows = aligned(), planted_pairs(HELD_OUT, 10, seed=6)
    classifier = ZeroShot(model, HELD_OUT[::-1])
    found = classifier.predict_proba(rows)
    assert classifier.classes == sorted(HELD_OUT)
    np.testing.assert_allclose(found.sum(1), 1)
    assert model.alignment is not None
    texts = model.embed({"caption": classifier.classes}, input="caption")
    logits = float(model.alignment.logit_scale.detach()) * model.embed(rows, input="picture") @ texts.T
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)


def test_templates_and_descriptions_average() -> None:
    model = aligned()
    both = ZeroShot(model, HELD_OUT, templates=TEMPLATES).class_embeddings
    single = [ZeroShot(model, HELD_OUT, templates=[one]).class_embeddings for one in TEMPLATES]
    mean = single[0] + single[1]
    np.testing.assert_allclose(both, mean / np.linalg.norm(mean, axis=1, keepdims=True), atol=1e-6)
    assert not np.allclose(single[0], single[1], atol=1e-2)
    described = {name: [template.replace("{}", name) for template in TEMPLATES] for name in HELD_OUT}
    np.testing.assert_allclose(ZeroShot(model, described).class_embeddings, both, atol=1e-6)


def test_only_the_input_is_read() -> None:
    """No caption is needed, and a row may be given by itself."""
    rows = {name: cells for name, cells in planted_pairs(HELD_OUT, 5, seed=7).items() if name in PICTURE}
    classifier = ZeroShot(aligned(), HELD_OUT)
    assert len(classifier.predict(rows)) == 5
    assert classifier.predict({name: cells[2] for name, cells in rows.items()}) == classifier.predict(rows)[2:3]


def test_rows_without_the_input_have_no_class() -> None:
    rows = planted_pairs(HELD_OUT, 10, seed=8)
    for name in PICTURE:
        rows[name][3] = None
    rows["what"][5], rows["what"][6] = None, "a class of its own"
    classifier = ZeroShot(aligned(), HELD_OUT, target="what")
    answers = classifier.predict(rows)
    assert [row for row, answer in enumerate(answers) if answer is None] == [3]
    assert np.isnan(classifier.predict_proba(rows)[3]).all()
    with pytest.warns(BadCellsWarning, match="row 6, column 'what'"):
        accuracy = classifier.evaluate(rows)["what"]["accuracy"]
    assert (accuracy["rows"], accuracy["skipped"], accuracy["unknown_class_rows"]) == (8, 1, 1)
    assert accuracy["left_out"] == {"missing_target": 1, "missing_input": 1}
    with pytest.raises(DataError, match="a class of its own"):
        classifier.evaluate(rows, strict=True)
    with pytest.raises(DataError, match="whatt"):
        ZeroShot(aligned(), HELD_OUT, target="whatt").evaluate(rows)


@pytest.mark.parametrize(
    ("classes", "templates", "message"),
    [
        ([], None, "at least two classes"),
        (["cat"], None, "at least two classes"),
        (["cat", "dog", "cat"], None, "the class 'cat' is given twice"),
        (["cat", " "], None, "must be a non-empty text"),
        ("cat,dog", None, "not the text"),
        (["cat", "dog"], ["a photo of"], "has no placeholder"),
        ({"cat": [], "dog": ["barks"]}, None, "one or several descriptions"),
    ],
)
def test_invalid_classes_are_rejected(classes: Any, templates: list[str] | None, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        class_prompts(classes, templates)


def test_braces_in_names_are_not_placeholders() -> None:
    found: Mapping[str, list[str]] = class_prompts({"a {0}": "b {c}", "d": ["e", "f"]}, ["x {} y"])
    assert found == {"a {0}": ["x b {c} y"], "d": ["x e y", "x f y"]}


def test_inputs_that_are_not_aligned(tmp_path: Path) -> None:
    model = aligned()
    with pytest.raises(RecipeError, match=r"input.*did you mean 'picture'"):
        ZeroShot(model, HELD_OUT, input="pictures")
    with pytest.raises(RecipeError, match="not an aligned text input"):
        ZeroShot(model, HELD_OUT, text="picture")
    with pytest.raises(PolymodalError, match="aligned text input"):
        ZeroShot(model, HELD_OUT, input="caption")
    rows = planted_pairs(HELD_OUT, 20, seed=9)
    plain: Model = trained(
        {"train": rows, "validation": rows}, tmp_path, outputs={"what": "classification"}, training={"epochs": 1}
    )
    with pytest.raises(PolymodalError, match="alignment objective"):
        ZeroShot(plain, HELD_OUT)


def test_the_command(tmp_path: Path) -> None:
    rows = planted_pairs(HELD_OUT, 20, seed=10)
    aligned().save(tmp_path / "model")
    table = tmp_path / "rows.jsonl"
    table.write_text("\n".join(json.dumps({name: cells[row] for name, cells in rows.items()}) for row in range(20)))
    given = [str(tmp_path / "model"), str(table), "--template", "we see {}"]
    found = CliRunner().invoke(
        app, ["zero-shot", *given, "--classes", ", ".join(HELD_OUT), "--target", "what", "--json"]
    )
    assert found.exit_code == 0, found.output
    value = json.loads(found.stdout)
    assert value["scores"]["what"]["accuracy"]["value"] > 0.7
    assert len(value["classes"]) == 20
    (tmp_path / "classes.yaml").write_text(json.dumps({name: [name] for name in HELD_OUT}))
    out = tmp_path / "named.jsonl"
    again = CliRunner().invoke(
        app, ["zero-shot", *given, "--classes-file", str(tmp_path / "classes.yaml"), "--out", str(out)]
    )
    assert again.exit_code == 0, again.output
    assert [json.loads(line) for line in out.read_text().splitlines()] == value["classes"]
    assert CliRunner().invoke(app, ["zero-shot", *given]).exit_code == 2
