"""Few-shot heads: they learn planted classes, tip is not worse than zero-shot, and saved heads predict the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from planted_pairs import HELD_OUT, PICTURE, aligned, planted_pairs
from polymodal.applications.few_shot.few_shot import FewShot
from polymodal.applications.few_shot.heads import ALPHA, BETA, DEFAULT_SCALE, HEADS, LinearProbe, Prototypes, TipAdapter
from polymodal.applications.few_shot.zero_shot import ZeroShot
from polymodal.cli.commands import app
from polymodal.core.errors import ArtifactError, DataError, PolymodalError, RecipeError

#: Noise under which zero-shot names some rows wrongly.
NOISE = 0.35
FEW, MANY = planted_pairs(HELD_OUT, 25, seed=20, noise=NOISE), planted_pairs(HELD_OUT, 200, seed=21, noise=NOISE)


def blobs(classes: int, rows: int, spread: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors around one direction for each class, and their classes."""
    draw = np.random.default_rng(seed)
    target = np.arange(rows) % classes
    vectors = np.random.default_rng(99).normal(size=(classes, 12))[target] + draw.normal(0, spread, (rows, 12))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), target


@pytest.mark.parametrize("head", HEADS)
def test_five_rows_of_each_class_are_enough(head: Any) -> None:
    fitted = FewShot.fit(aligned(), FEW, "what", head, "picture")
    accuracy = fitted.evaluate(MANY)["what"]["accuracy"]
    assert accuracy["value"] > 0.6
    assert accuracy["p_value"] < 1e-9
    np.testing.assert_allclose(fitted.predict_proba(MANY).sum(1), 1)
    assert fitted.classes == sorted(HELD_OUT)


@pytest.mark.parametrize("head", ["prototypes", "linear"])
def test_shuffled_labels_give_chance_accuracy(head: Any) -> None:
    shuffled = {**FEW, "what": np.random.default_rng(1).permutation(FEW["what"]).tolist()}
    assert FewShot.fit(aligned(), shuffled, "what", head, "picture").evaluate(MANY)["what"]["accuracy"]["value"] < 0.5


def test_tip_is_no_worse_than_zero_shot() -> None:
    zero = ZeroShot(aligned(), HELD_OUT, target="what").evaluate(MANY)["what"]
    fitted = FewShot.fit(aligned(), {name: FEW[name] for name in [*PICTURE, "what"]}, "what", "tip")
    tip = fitted.evaluate(MANY)["what"]
    assert fitted.input == "picture"
    assert tip["accuracy"]["value"] >= zero["accuracy"]["value"]
    assert tip["log_loss"]["value"] < zero["log_loss"]["value"]


def test_tip_without_its_cache_is_zero_shot() -> None:
    fitted, zero = FewShot.fit(aligned(), FEW, "what", "tip"), ZeroShot(aligned(), HELD_OUT)
    keys, values = fitted.head.keys, fitted.head.values  # type: ignore[attr-defined]
    none = TipAdapter(keys, values, zero.class_embeddings, zero.logit_scale, 0.0, 5.5)
    vectors = aligned().embed(MANY, input="picture").astype(np.float64)
    np.testing.assert_allclose(none.logits(vectors), zero.logits(vectors))


def test_tip_equals_the_formula_of_the_paper() -> None:
    vectors, target = blobs(3, 12, 0.2)
    texts, _ = blobs(3, 3, 0.5, seed=5)
    head = TipAdapter(vectors, np.eye(3)[target], texts, 7.0, 2.0, 5.5)
    x = blobs(3, 1, 0.3, seed=8)[0][0]
    expected = [
        2.0 * sum(np.exp(-5.5 * (1 - x @ key)) for key, own in zip(vectors, target, strict=True) if own == k)
        + 7.0 * x @ texts[k]
        for k in range(3)
    ]
    np.testing.assert_allclose(head.logits(x[None])[0], expected)


def test_a_cache_that_misleads_is_left_out() -> None:
    """Rows are nearest to rows of other classes, by what the texts do not speak of."""
    draw = np.random.default_rng(0)
    target = np.arange(60) % 3
    group = draw.normal(size=(20, 8))[np.arange(60) // 3]
    vectors = np.concatenate([0.2 * np.eye(3)[target], group / np.linalg.norm(group, axis=1, keepdims=True)], axis=1)
    texts = np.eye(3, 11)
    assert TipAdapter.fit(vectors, target, 3, class_embeddings=texts, scale=20.0).alpha == 0
    assert TipAdapter.fit(*blobs(3, 60, 0.2), 3, class_embeddings=blobs(3, 3, 2.0)[0], scale=5.0).alpha > 0


def test_prototypes_are_means_and_near_is_likely() -> None:
    vectors, target = blobs(3, 30, 0.3)
    head = Prototypes.fit(vectors, target, 3)
    for k in range(3):
        np.testing.assert_allclose(head.centers[k], vectors[target == k].mean(0))
    x = vectors[:4]
    expected = -head.scale * ((x[:, None] - head.centers) ** 2).sum(2)
    np.testing.assert_allclose(head.logits(x), expected, atol=1e-9)


def test_the_scale_of_prototypes_follows_how_far_classes_are_apart() -> None:
    tight, loose = (Prototypes.fit(*blobs(4, 40, spread), 4).scale for spread in (0.05, 1.5))
    assert tight > loose


def test_a_stronger_penalty_is_chosen_for_shuffled_labels() -> None:
    vectors, target = blobs(3, 60, 0.1)
    shuffled = np.random.default_rng(0).permutation(target)
    assert LinearProbe.fit(vectors, target, 3).inverse_penalty > LinearProbe.fit(vectors, shuffled, 3).inverse_penalty


@pytest.mark.parametrize("classes", [2, 3])
def test_one_row_of_each_class_is_enough(classes: int) -> None:
    vectors, target = blobs(classes, classes, 0.1)
    texts, _ = blobs(classes, classes, 0.5, seed=4)
    test, truth = blobs(classes, 30, 0.1, seed=2)
    heads = [Prototypes.fit(vectors, target, classes), LinearProbe.fit(vectors, target, classes)]
    tip = TipAdapter.fit(vectors, target, classes, class_embeddings=texts, scale=1.0)
    for head in [*heads, tip]:
        assert (head.logits(test).argmax(1) == truth).mean() > 0.9
    assert (heads[0].scale, tip.alpha, tip.beta) == (DEFAULT_SCALE, ALPHA, BETA)  # type: ignore[union-attr]


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("named", [True, False])
def test_a_saved_head_predicts_the_same(tmp_path: Path, head: Any, named: bool) -> None:
    """With a reference to the model, which may be moved together with the head, or with a copy of it."""
    model: Any = aligned()
    if named:
        model = model.save(tmp_path / "all" / "model")
    fitted = FewShot.fit(model, FEW, "what", head, "picture")
    fitted.save(tmp_path / "all" / "head")
    assert (tmp_path / "all" / "head" / "model").is_dir() != named
    (tmp_path / "all").rename(tmp_path / "moved")
    loaded = FewShot.load(tmp_path / "moved" / "head")
    np.testing.assert_allclose(loaded.predict_proba(MANY), fitted.predict_proba(MANY), atol=1e-7)
    assert loaded.predict(MANY) == fitted.predict(MANY)
    assert (loaded.classes, loaded.input, loaded.head.state()[1]) == (fitted.classes, "picture", fitted.head.state()[1])


def test_labels_keep_their_kind_and_the_whole_row_serves() -> None:
    rows = {**FEW, "what": [HELD_OUT.index(name) % 2 == 0 for name in FEW["what"]]}
    fitted = FewShot.fit(aligned(), rows, "what")
    assert set(fitted.predict(rows)) == {True, False}
    assert fitted.classes == ["false", "true"]


def test_rows_without_the_input_have_no_class_and_are_not_used_for_training() -> None:
    rows = {name: list(cells) for name, cells in FEW.items()}
    for name in PICTURE:
        rows[name][0] = None
    rows["what"][1] = None
    fitted = FewShot.fit(aligned(), rows, "what", "tip")
    assert len(fitted.head.keys) == 23  # type: ignore[attr-defined]
    assert [row for row, answer in enumerate(fitted.predict(rows)) if answer is None] == [0]
    scores = fitted.evaluate(rows)["what"]["accuracy"]
    assert (scores["rows"], scores["skipped"]) == (24 - 1, 1)


def test_invalid_arguments_are_rejected() -> None:
    model = aligned()
    with pytest.raises(RecipeError, match=r"head.*did you mean 'linear'"):
        FewShot.fit(model, FEW, "what", "linar")  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="uses no class texts"):
        FewShot.fit(model, FEW, "what", "linear", templates=["a {}"])
    with pytest.raises(RecipeError, match="descriptions"):
        FewShot.fit(model, FEW, "what", "tip", descriptions={"a": "b", "c": "d"})
    with pytest.raises(DataError, match="two classes"):
        FewShot.fit(model, {**FEW, "what": ["a"] * 25}, "what")
    with pytest.raises(DataError, match="whatt"):
        FewShot.fit(model, FEW, "whatt")
    with pytest.raises(RecipeError, match="did you mean 'picture'"):
        FewShot.fit(model, FEW, "what", input="pictur")
    gone = {**FEW, **{name: [None, *FEW[name][1:]] for name in PICTURE}, "what": ["lone", *FEW["what"][1:]]}
    with pytest.raises(DataError, match="no row of the class 'lone'"):
        FewShot.fit(model, gone, "what", input="picture")


def test_another_model_or_an_altered_head_is_refused(tmp_path: Path) -> None:
    place = aligned().save(tmp_path / "model")
    FewShot.fit(place, FEW, "what", input="picture").save(tmp_path / "head")
    with pytest.raises(PolymodalError, match="holds a model directory"):
        FewShot.load(tmp_path / "head").save(place)
    with pytest.raises(ArtifactError, match="contains no few-shot head"):
        FewShot.load(place)
    other = aligned(shuffled=True).save(tmp_path / "other")
    with pytest.raises(ArtifactError, match="is not the model"):
        FewShot.load(tmp_path / "head", model=other)
    place.rename(tmp_path / "away")
    with pytest.raises(ArtifactError, match="pass its new directory"):
        FewShot.load(tmp_path / "head")
    assert FewShot.load(tmp_path / "head", model=tmp_path / "away").predict(MANY)
    arrays = tmp_path / "head" / "head.safetensors"
    arrays.write_bytes(arrays.read_bytes()[:-8] + b"changed!")
    with pytest.raises(ArtifactError, match="was changed"):
        FewShot.load(tmp_path / "head", model=tmp_path / "away")


def test_the_command_and_prediction(tmp_path: Path) -> None:
    aligned().save(tmp_path / "model")
    for name, rows in (("few", FEW), ("many", MANY)):
        lines = [json.dumps({key: cells[row] for key, cells in rows.items()}) for row in range(len(rows["what"]))]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    run = CliRunner().invoke
    place = {name: str(tmp_path / name) for name in ("model", "few.jsonl", "many.jsonl", "head", "out.jsonl")}
    given = [place["model"], place["few.jsonl"], "--target", "what", "--head", "tip", "--out", place["head"]]
    fitted = run(app, ["few-shot", *given, "--test", place["many.jsonl"], "--json"])
    assert fitted.exit_code == 0, fitted.output
    accuracy = json.loads(fitted.stdout)["scores"]["what"]["accuracy"]["value"]
    scored = run(app, ["evaluate", place["head"], place["many.jsonl"], "--json"])
    assert json.loads(scored.stdout)["scores"]["what"]["accuracy"]["value"] == accuracy
    done = run(app, ["predict", place["head"], place["many.jsonl"], "--out", place["out.jsonl"], "--json"])
    assert done.exit_code == 0, done.output
    answers = [json.loads(line)["what"] for line in Path(place["out.jsonl"]).read_text().splitlines()]
    assert np.mean([one == other for one, other in zip(answers, MANY["what"], strict=True)]) == accuracy
    shutil.rmtree(tmp_path / "model")
    assert run(app, ["predict", place["head"], place["many.jsonl"]]).exit_code != 0
