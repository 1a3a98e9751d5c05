"""Models that decide together: combination, saving, errors."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from damage import change_signed
from polymodal.core.errors import ArtifactError, PolymodalError, RecipeError
from polymodal.datasets.planted import make_planted_table
from polymodal.model.distributions import to_raw_values
from polymodal.model.ensemble import FITTED_METHODS, Ensemble, ensemble
from polymodal.model.loading import load
from polymodal.model.model import Model
from polymodal.nn.fusion.combiner import CombineRule
from polymodal.workflows.fit import fit
from setting_lists import replaced

TINY = [
    "hidden_size=16",
    "training.num_threads=1",
    "training.precision=fp32",
    "evaluation.bootstrap_samples=20",
    "evaluation.unimodal_scores=none",
]
METHODS = get_args(CombineRule)
ROWS = make_planted_table(150, seed=5)


def trained(data: dict[str, Any], targets: list[str], inputs: Any, *settings: str) -> Model:
    return fit(data, targets, recipe={"inputs": inputs}, settings=replaced(TINY, *settings))


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> list[Model]:
    """Three models of `grade` and `price`, of different inputs, seeds, order of outputs, and quality."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLYMODAL_CACHE", str(tmp_path_factory.mktemp("cache")))
        data, targets = make_planted_table(150, seed=0), ["grade", "price"]
        size = {"length": "number", "weight": "number"}
        good = ("training.epochs=15", "training.learning_rate=0.02")
        return [
            trained(data, targets, size, *good),
            trained(data, targets, size | {"maker": "category"}, *good, "seed=1"),
            trained(data, targets[::-1], {"useless": "number"}, "training.epochs=2", "seed=2"),
        ]


def reversed_classes(model: Model) -> Model:
    """The same model with the classes of `grade` in the other order."""
    model = copy.deepcopy(model)
    task = model.preparation.tasks["grade"]
    task.labels.values.reverse()  # type: ignore[attr-defined]
    task.labels._index = {key: 1 - index for key, index in task.labels._index.items()}  # type: ignore[attr-defined]
    network = model.network
    last = [m for m in network.decoders.modules() if hasattr(m, "out_features") and m.out_features == 2][-1]
    last.weight.data, last.bias.data = last.weight.data.flip(0), last.bias.data.flip(0)
    return model


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYMODAL_CACHE", str(tmp_path / "cache"))


def made(members: list[Model], method: Any) -> Ensemble:
    return ensemble(members, method=method, data=make_planted_table(120, seed=7) if method in FITTED_METHODS else None)


def test_average_is_the_mean_of_the_members_whatever_their_order_of_classes(members: list[Model]) -> None:
    turned = [members[0], reversed_classes(members[1]), members[2]]
    assert turned[1].classes["grade"] == members[0].classes["grade"][::-1]
    found = made(turned, "average").predict_proba(ROWS)
    each = [member.predict_proba(ROWS) for member in members]
    np.testing.assert_allclose(found["grade"], sum(one["grade"] for one in each) / 3, atol=1e-6)
    np.testing.assert_allclose(found["price"], sum(one["price"] for one in each) / 3, rtol=1e-4)


def test_vote_is_the_majority_and_the_median(members: list[Model]) -> None:
    found = made(members, "vote").predict(ROWS)
    each = [member.predict(ROWS) for member in members]
    for row, answer in enumerate(found["grade"]):
        assert sum(one["grade"][row] == answer for one in each) >= 2
    np.testing.assert_allclose(found["price"], np.median([one["price"] for one in each], axis=0), rtol=1e-4)


@pytest.mark.parametrize("method", FITTED_METHODS)
def test_fitted_methods_do_not_let_a_useless_member_drag_the_others_down(members: list[Model], method: str) -> None:
    """The useless member counts as much as the others in the average, and less once the combination is fitted."""
    fitted = made(members, method).evaluate(ROWS)
    plain = made(members, "average").evaluate(ROWS)
    assert fitted["price"]["rmse"]["value"] < plain["price"]["rmse"]["value"]
    assert fitted["grade"]["log_loss"]["value"] < plain["grade"]["log_loss"]["value"]


def test_evaluate_agrees_with_predict_and_shows_each_member(members: list[Model]) -> None:
    whole = made(members, "average")
    scores = whole.evaluate(ROWS)["grade"]["accuracy"]
    answers = whole.predict(ROWS)["grade"]
    assert scores["value"] == pytest.approx(np.mean([a == t for a, t in zip(answers, ROWS["grade"], strict=True)]))
    own = [member.evaluate(ROWS)["grade"]["accuracy"]["value"] for member in members]
    assert scores["members"] == pytest.approx(own)
    assert scores["low"] <= scores["value"] <= scores["high"]


@pytest.mark.parametrize("method", METHODS)
def test_saved_and_loaded_is_the_same(members: list[Model], method: str, tmp_path: Path) -> None:
    whole = made(members, method)
    whole.save(tmp_path / "ensemble")
    back = load(tmp_path / "ensemble")
    assert isinstance(back, Ensemble)
    assert back.method == method
    assert back.classes == whole.classes
    for name, wanted in whole.predict_proba(ROWS).items():
        np.testing.assert_array_equal(back.predict_proba(ROWS)[name], wanted)
    again = ensemble(members[:2])
    again.save(tmp_path / "ensemble", overwrite=True)  # a smaller one leaves nothing of the larger behind
    assert sorted(path.name for path in (tmp_path / "ensemble" / "members").iterdir()) == ["0", "1"]
    assert isinstance(load(tmp_path / "ensemble"), Ensemble)


def test_members_may_be_directories(members: list[Model], tmp_path: Path) -> None:
    paths = [member.save(tmp_path / str(place)) for place, member in enumerate(members)]
    assert isinstance(load(paths[0]), Model)
    found = ensemble([paths[0], str(paths[1]), members[2]]).predict_proba(ROWS)
    for name, wanted in ensemble(members).predict_proba(ROWS).items():
        np.testing.assert_array_equal(found[name], wanted)
    with pytest.raises(PolymodalError, match="holds a model directory"):
        ensemble(members).save(paths[0])


@pytest.mark.parametrize(
    "victim",
    [
        "combination.safetensors",
        "members/1/model.safetensors",
        "members/0/manifest.json",
        "members/1/recipe.yaml",
    ],
)
def test_an_altered_or_missing_file_is_found(members: list[Model], victim: str, tmp_path: Path) -> None:
    folder = made(members[:2], "weighted").save(tmp_path / "ensemble")
    content = (folder / victim).read_bytes()
    (folder / victim).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ArtifactError):
        load(folder)
    (folder / victim).unlink()
    with pytest.raises(ArtifactError):
        load(folder)


@pytest.mark.parametrize(
    "change",
    [{"members": 3}, {"members": "two"}, {"method": "magic"}, {"format": 99}, {"sha256": {}}, None],
)
def test_a_damaged_description_is_found(members: list[Model], change: Any, tmp_path: Path) -> None:
    folder = ensemble(members[:2]).save(tmp_path / "ensemble")
    if change:
        change_signed(folder / "ensemble.json", **change)
    else:
        (folder / "ensemble.json").write_text("[")
    with pytest.raises(ArtifactError):
        load(folder)


def test_a_directory_that_holds_neither_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="holds neither"):
        load(tmp_path)
    with pytest.raises(ArtifactError, match="does not exist"):
        load(tmp_path / "nowhere")


def test_what_does_not_fit_together_is_refused(members: list[Model], tmp_path: Path) -> None:
    data = make_planted_table(60, seed=0)
    grade = trained(data, ["grade"], {"length": "number"}, "training.epochs=1")
    with pytest.raises(RecipeError, match="model 1 predicts"):
        ensemble([members[0], grade])
    data["grade"] = ["heavy" if one == "large" else one for one in data["grade"]]
    other = trained(data, ["grade"], {"length": "number"}, "training.epochs=1")
    with pytest.raises(RecipeError, match="heavy"):
        ensemble([grade, other])
    with pytest.raises(RecipeError, match="two or more models"):
        ensemble(members[:1])
    with pytest.raises(RecipeError, match="give rows"):
        ensemble(members, method="stack")
    with pytest.raises(RecipeError, match="remove data"):
        ensemble(members, data=data)
    with pytest.raises(RecipeError, match="unknown method 'magic'"):
        ensemble(members, method="magic")  # type: ignore[arg-type]
    with pytest.raises(ArtifactError):
        ensemble([members[0], tmp_path])


@pytest.mark.parametrize("settings", [[], ["outputs.price.task.transform=log", "outputs.price.task.name=regression"]])
def test_values_of_a_distribution_give_it_back(members: list[Model], settings: list[str]) -> None:
    inputs = {"length": "number"}
    model = trained(make_planted_table(60, seed=0), ["grade", "price"], inputs, "training.epochs=1", *settings)
    for name, task in model.preparation.tasks.items():
        wanted = model.predict_proba(ROWS)[name]
        np.testing.assert_allclose(task.distribution(to_raw_values(task, wanted)), wanted, rtol=1e-4)


def test_labels_that_are_not_exclusive_are_averaged_each_for_itself() -> None:
    data = make_planted_table(80, seed=0)
    data["tags"] = ["|".join(t for t, on in (("long", x > 50), ("heavy", w > 2)) if on)  # type: ignore[list-item]
                    for x, w in zip(data["length"], data["weight"], strict=True)]  # fmt: skip
    output = ["outputs.tags.task=multilabel_classification", "training.epochs=3"]
    models = [trained(data, ["tags"], {one: "number"}, *output) for one in ("length", "weight")]
    found = ensemble(models).predict_proba(data)
    np.testing.assert_allclose(found, sum(one.predict_proba(data) for one in models) / 2, atol=1e-6)
