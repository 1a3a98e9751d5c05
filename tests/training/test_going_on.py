"""Training that starts from a saved model: which weights are loaded, what is refused, and the gain on planted data."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from laws.checkpoints import checkpoint
from polymodal import cross_validate, fit, pretrain
from polymodal.cli.commands import app
from polymodal.core.errors import ArtifactError, RecipeError
from polymodal.model.model import Model
from polymodal.nn.encoders.inception_time import InceptionTime
from polymodal.recipe.recipe import Recipe
from polymodal.training.trainer import Trainer
from polymodal.tuning.default_space import default_space
from polymodal.workflows.fit import plan_fit

Columns = dict[str, Any]
CLASSES, STEPS = 5, 24
NAMES = [["ash", "birch"], ["cedar", "elm"], ["fir", "oak"], ["pine", "teak"], ["willow", "yew"]]
FIXED: dict[str, Any] = {"num_threads": 1, "precision": "fp32"}
QUIET = {"unimodal_scores": "none", "bootstrap_samples": 0}
ENCODER = "inputs.wave.encoder"


def waves(count: int, seed: int, *, scale: float = 1.0) -> Columns:
    """A wave of one of five frequencies at any moment, in noise; one of two names of its frequency; and its class."""
    draw = np.random.default_rng(seed)
    kind = np.arange(count) % CLASSES
    phase = draw.uniform(0, 2 * np.pi, (count, 1))
    clean = np.sin(phase + np.arange(STEPS) * (0.4 + 0.4 * kind[:, None]))
    noisy = scale * (clean + draw.normal(0, 0.7, clean.shape))
    names = [NAMES[k][draw.integers(2)] for k in kind]
    return {"wave": noisy.tolist(), "name": names, "kind": [f"k{k}" for k in kind]}


def without(columns: Columns, *names: str) -> Columns:
    return {name: cells for name, cells in columns.items() if name not in names}


def recipe(**training: Any) -> dict[str, Any]:
    return {"training": {**FIXED, "batch_size": 32, **training}, "evaluation": QUIET}


PAIRS: dict[str, Any] = {
    **recipe(epochs=10, learning_rate=0.01),
    "inputs": {
        "wave": {
            "modality": {"name": "time_series", "random_crop": 0},
            "encoder": {"name": "inception_time", "kernel_size": 9},
        },
        "name": {"modality": "text", "encoder": "embedding_bag"},
    },
    "hidden_size": 32,
}


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that saw waves and their names together, without a class."""
    folder = tmp_path_factory.mktemp("start") / "pairs"
    pretrain(without(waves(500, 0, scale=3.0), "kind"), "contrastive", recipe=PAIRS, out=folder)
    return folder


def few(seed: int = 5, count: int = 40) -> Columns:
    return without(waves(count, seed), "name")


def right(model: Model) -> float:
    test = few(99, 500)
    return float(np.mean([a == b for a, b in zip(model.predict(test), test["kind"], strict=True)]))


def states(folder: Path) -> Any:
    return json.loads((folder / "preparation.json").read_text())


def altered(folder: Path, copy: Path) -> Path:
    """The model with another weight, saved as such: an intact model that is not the same."""
    model = Model.load(folder)
    with torch.no_grad():
        next(model.network.parameters()).view(-1)[0] += 1.0
    return model.save(copy)


def test_few_labels_go_further_from_a_model_that_saw_pairs(start: Path) -> None:
    with_start = fit(few(), "kind", recipe=recipe(epochs=15), init_from=start)
    scratch = fit(few(), "kind", recipe={**PAIRS, **recipe(epochs=15), "inputs": {"wave": PAIRS["inputs"]["wave"]}})
    assert with_start.recipe.inputs["wave"] == scratch.recipe.inputs["wave"]
    assert right(with_start) > right(scratch) + 0.15


def test_unset_options_and_the_preparation_come_from_the_source_model(start: Path, tmp_path: Path) -> None:
    """Also where it is gone on from the copy of a copy, and none of them is there any more."""
    first = shutil.copytree(start, tmp_path / "first")
    model = fit(few(), "kind", recipe=recipe(epochs=1), init_from=first, out=tmp_path / "second")
    theirs = Model.load(start)
    assert model.recipe.hidden_size == 32
    assert model.recipe.inputs["wave"] == theirs.recipe.inputs["wave"]
    assert states(tmp_path / "second")["inputs"]["wave"] == states(start)["inputs"]["wave"]
    assert states(start)["inputs"]["wave"]["std"][0] > 2, "of waves three times as high as the labeled ones"
    facts = json.loads((tmp_path / "second" / "run.json").read_text())["source_model"]
    assert facts["loaded"] == ["inputs.wave"]
    assert facts["new"] == ["fusion", "outputs.kind"]
    shutil.rmtree(first)
    last = fit(few(7), "kind", recipe=recipe(epochs=0), init_from=tmp_path / "second", out=tmp_path / "third")
    assert last.run.source_model.loaded == ("inputs.wave", "fusion", "outputs.kind")
    shutil.rmtree(tmp_path / "second")
    test = without(few(99), "kind")
    assert np.array_equal(Model.load(tmp_path / "third").predict_proba(test), model.predict_proba(test))


def test_tokens_and_objectives_are_loaded(start: Path) -> None:
    """The names of other rows would give another tokenizer."""
    pairs = without(waves(60, 3), "kind")
    pairs["name"] = [name.upper() for name in pairs["name"]]
    model = pretrain(pairs, "contrastive", recipe=recipe(epochs=0), init_from=start)
    theirs = Model.load(start)
    assert model.run.source_model.loaded == ("inputs.wave", "inputs.name", "objectives.0")
    for name, tensor in theirs.network.state_dict().items():
        assert torch.equal(model.network.state_dict()[name], tensor), name
    other = pretrain(
        pairs,
        recipe={**recipe(epochs=0), "objectives": [{"name": "contrastive", "embedding_dim": 16}]},
        init_from=start,
    )
    assert other.run.source_model.new == ("objectives.0",)


def test_numbers_keep_the_scale_of_the_start(tmp_path: Path) -> None:
    """The decoder predicts in standard deviations of its first training table."""
    draw = np.random.default_rng(0)
    rows = [{"x": x, "y": 100 * x} for x in draw.normal(size=80)]
    data = {name: [row[name] for row in rows] for name in ("x", "y")}
    first = fit(data, "y", recipe=recipe(epochs=5), out=tmp_path / "first")
    near = {"x": data["x"], "y": [y / 1000 for y in data["y"]]}
    again = fit(near, "y", recipe=recipe(epochs=0), init_from=tmp_path / "first")
    assert "outputs.y" in again.run.source_model.loaded
    assert np.array_equal(again.predict_proba(near), first.predict_proba(near))


def test_other_classes_get_a_new_decoder(start: Path, tmp_path: Path) -> None:
    fit(few(), "kind", recipe=recipe(epochs=1), init_from=start, out=tmp_path / "first")
    renamed = {**few(), "kind": [f"other {cell}" for cell in few()["kind"]]}
    model = fit(renamed, "kind", recipe=recipe(epochs=1), init_from=tmp_path / "first")
    assert model.run.source_model.new == ("outputs.kind",)


@pytest.mark.parametrize(
    ("change", "path", "ours", "theirs"),
    [
        ({"inputs": {"wave": {"encoder": "minirocket"}}}, "inputs.wave.encoder", "minirocket", "inception_time"),
        (
            {"inputs": {"wave": {"encoder": {"name": "inception_time", "kernel_size": 5}}}},
            "inputs.wave.encoder.kernel_size",
            "5",
            "9",
        ),
        (
            {"inputs": {"wave": {"modality": {"name": "time_series", "random_crop": 0.5}}}},
            "inputs.wave.modality.random_crop",
            "0.5",
            "0",
        ),
        ({"hidden_size": 64}, "hidden_size", "64", "32"),
    ],
    ids=["encoder", "kernel", "crop", "hidden_size"],
)
def test_a_recipe_that_says_otherwise_is_refused(
    start: Path, change: dict[str, Any], path: str, ours: str, theirs: str
) -> None:
    with pytest.raises(RecipeError) as told:
        fit(few(), "kind", recipe={**recipe(epochs=1), **change}, init_from=start)
    assert told.value.path == path
    assert f"the recipe has {ours}" in str(told.value).replace("'", "")
    assert f"has {theirs}" in str(told.value).replace("'", "")


def test_a_recipe_that_says_the_same_is_not(start: Path) -> None:
    same = {**recipe(epochs=1), "hidden_size": 32, "inputs": {"wave": PAIRS["inputs"]["wave"]}}
    assert fit(few(), "kind", recipe=same, init_from=start).run.source_model.loaded == ("inputs.wave",)


def test_no_common_input_is_refused_with_those_there_are(start: Path) -> None:
    renamed = {"curve" if name == "wave" else name: cells for name, cells in few().items()}
    with pytest.raises(
        RecipeError, match=r"training\.init_from.*wave \(time_series\), name \(text\).*curve \(time_series\)"
    ):
        fit(renamed, "kind", recipe=recipe(epochs=1), init_from=start)


def test_a_start_that_is_not_there_or_was_altered_is_refused(start: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"training\.init_from: .*does not exist"):
        fit(few(), "kind", init_from=tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecipeError, match=r"training\.init_from: .*holds no model"):
        fit(few(), "kind", init_from=tmp_path / "empty")
    copy = shutil.copytree(start, tmp_path / "copy")
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    with pytest.raises(ArtifactError, match="was changed after it was saved"):
        fit(few(), "kind", init_from=copy)


class Killed(Exception):
    pass


def killed(step: int, patch: pytest.MonkeyPatch, **arguments: Any) -> None:
    ordinary = Trainer._step

    def until(self: Trainer, rows: np.ndarray) -> None:
        if self.history.steps == step:
            raise Killed
        ordinary(self, rows)

    with patch.context() as here:
        here.setattr(Trainer, "_step", until)
        with pytest.raises(Killed):
            fit(few(), "kind", **arguments)


@pytest.mark.parametrize("frozen", [False, True])
def test_an_interrupted_run_resumes_to_the_same_end(
    start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frozen: bool
) -> None:
    place = shutil.copytree(start, tmp_path / "start")
    given = recipe(epochs=4, batch_size=8, save_steps=1, param_groups={ENCODER: {"freeze": frozen}})
    arguments: dict[str, Any] = {"recipe": given, "init_from": place}
    whole = fit(few(), "kind", out=tmp_path / "whole", **arguments)
    killed(5, monkeypatch, out=tmp_path / "run", **arguments)
    resumed = fit(few(), "kind", out=tmp_path / "run", resume=True, **arguments)
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(resumed.network.state_dict()[name], tensor), name
    killed(5, monkeypatch, out=tmp_path / "other", **arguments)
    shutil.rmtree(place)
    altered(start, place)
    with pytest.raises(ArtifactError, match="another source model"):
        fit(few(), "kind", out=tmp_path / "other", resume=True, **arguments)


def test_a_frozen_encoder_of_the_start_runs_once_for_each_item(
    start: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In every epoch otherwise; what is learned from either is the same to 1e-6."""
    monkeypatch.setenv("POLYMODAL_CACHE", str(tmp_path))
    ran: list[int] = []
    ordinary = InceptionTime.forward

    def counted(self: InceptionTime, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        ran.append(len(data["values"]))
        return ordinary(self, data)

    monkeypatch.setattr(InceptionTime, "forward", counted)
    still = {"name": "time_series", "random_crop": 0, "jitter": 0}
    given = {**PAIRS, **recipe(epochs=1), "inputs": {"wave": {"modality": still}}}
    pretrain(without(waves(60, 0), "kind", "name"), "masked_modeling", recipe=given, out=tmp_path / "still")
    found, runs = [], []
    for cache in (True, False):
        ran.clear()
        features = {"enabled": cache, "dtype": "fp32"}
        options = recipe(epochs=6, param_groups={ENCODER: {"freeze": True}}, feature_cache=features)
        found.append(fit(few(), "kind", recipe=options, init_from=tmp_path / "still"))
        runs.append(sum(ran))
    assert runs[0] == 40
    assert runs[1] >= 5 * 40
    outputs = [one.predict_proba(few(99)) for one in found]
    assert np.abs(outputs[0] - outputs[1]).max() < 1e-5
    theirs = Model.load(tmp_path / "still").network.encoders()["wave"].state_dict()
    for name, tensor in found[0].network.encoders()["wave"].state_dict().items():
        assert torch.equal(tensor, theirs[name]), name


def test_a_tuned_checkpoint_goes_on_frozen_without_its_files(tmp_path: Path) -> None:
    """Its weights are those that were tuned, and the originals, which other networks share, stay as they are."""
    files = shutil.copytree(checkpoint("text"), tmp_path / "checkpoint")
    names = {"name": ["a " + name for name in waves(40, 0)["name"]], "kind": waves(40, 0)["kind"]}
    encoder = {"name": "pretrained_text", "checkpoint": str(files), "fine_tuning": "last", "num_layers": 1}
    given = {**recipe(epochs=2, learning_rate=0.1), "inputs": {"name": {"modality": "text", "encoder": encoder}}}
    first = fit(names, "kind", recipe=given, out=tmp_path / "first")
    shutil.rmtree(files)
    frozen = {"name": "pretrained_text", "fine_tuning": "freeze"}
    again = {**recipe(epochs=2), "inputs": {"name": {"modality": "text", "encoder": frozen}}}
    other = {**frozen, "checkpoint": "fast"}
    with pytest.raises(RecipeError, match=r"inputs\.name\.encoder\.checkpoint"):
        fit(names, "kind", recipe={**again, "inputs": {"name": {"encoder": other}}}, init_from=tmp_path / "first")
    second = fit(names, "kind", recipe=again, init_from=tmp_path / "first")
    tuned = first.network.encoders()["name"].state_dict()
    for name, tensor in second.network.encoders()["name"].state_dict().items():
        assert torch.equal(tensor, tuned[name]), name
    adapters = {**frozen, "fine_tuning": "lora"}
    with pytest.raises(RecipeError, match=r"inputs\.name: cannot load its weights"):
        fit(names, "kind", recipe={**again, "inputs": {"name": {"encoder": adapters}}}, init_from=tmp_path / "first")


def test_folds_and_trials_go_on_from_it_too(start: Path, tmp_path: Path) -> None:
    """A search does not change loaded parts."""
    given = recipe(epochs=2, init_from=str(start))
    folds = cross_validate(few(), "kind", recipe=given, folds=2)
    assert folds.recipe.inputs["wave"] == Model.load(start).recipe.inputs["wave"]
    plan, parts = plan_fit(few(), "kind", recipe=given)
    space = default_space(Recipe.read(given), plan.recipe, len(parts["train"].rows), None)
    assert not {"hidden_size", "inputs.wave.encoder"} & space.keys()
    assert "outputs.kind.decoder" in space


def test_the_command_line_lists_the_loaded_parts(start: Path, tmp_path: Path) -> None:
    table = tmp_path / "few.jsonl"
    rows = [dict(zip(few(), row, strict=True)) for row in zip(*few().values(), strict=True)]
    table.write_text("\n".join(json.dumps(row) for row in rows))
    arguments = ["fit", str(table), "-t", "kind", "--init-from", str(start), "-o", str(tmp_path / "out")]
    settings = [
        "training.epochs=1",
        "training.num_threads=1",
        "training.precision=fp32",
        "evaluation.bootstrap_samples=0",
    ]
    done = CliRunner().invoke(app, [*arguments, *(part for one in settings for part in ("--set", one))])
    assert done.exit_code == 0, done.output
    assert "inputs.wave; new: fusion, outputs.kind" in " ".join(done.output.split())
