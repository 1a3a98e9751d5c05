"""The feature cache in whole runs: fits, folds and interrupted runs share it, and training over it is the same
training."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from laws.checkpoints import checkpoint, write
from laws.frozen_encoders import EncodeCounter, distinct
from laws.samples import Columns, experiment, sample_table, table_of
from laws.test_resume import Killed, KilledAt, assert_same_run
from polymodal.core.progress import Progress
from polymodal.experiments.experiment import Experiment
from polymodal.experiments.train import train_model
from polymodal.model.model import Model
from polymodal.workflows.cross_validation import cross_validate
from polymodal.workflows.fit import fit

ROWS = 24
TRAINING: dict[str, Any] = {"epochs": 2, "precision": "fp32", "num_threads": 1}


def table_and_recipe() -> tuple[Columns, dict[str, Any]]:
    """Texts and images through frozen checkpoints, and a class."""
    columns, recipe = sample_table(["text", "image"], ["classification"], rows=ROWS)
    columns["text"] = [f"{text} {'abcdefghijklmnopqrstuvwxyz'[row]}" for row, text in enumerate(columns["text"])]
    columns["y_classification"] = ["yes" if row % 2 else "no" for row in range(ROWS)]
    for name in ("text", "image"):
        encoder = {"name": f"pretrained_{name}", "checkpoint": checkpoint(name)}
        recipe["inputs"][f"in_{name}"] |= {"modality": name, "encoder": encoder}
    recipe |= {
        "hidden_size": 16,
        "seed": 0,
        "training": TRAINING,
        "evaluation": {"bootstrap_samples": 10, "unimodal_scores": "none"},
    }
    return columns, recipe


@pytest.fixture
def encode_counter(monkeypatch: pytest.MonkeyPatch) -> EncodeCounter:
    return EncodeCounter(monkeypatch)


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POLYMODAL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def encoded(encode_counter: EncodeCounter) -> int:
    return encode_counter.taken("pretrained_text", "pretrained_image")


def test_a_second_fit_encodes_nothing_and_gives_the_same_model(encode_counter: EncodeCounter, own_cache: Path) -> None:
    columns, recipe = table_and_recipe()
    first = fit(columns, "y_classification", recipe=recipe)
    assert encoded(encode_counter) == distinct(columns["text"]) + distinct(columns["image"])
    second = fit(columns, "y_classification", recipe=recipe)
    assert encoded(encode_counter) == 0
    assert first.metrics == second.metrics
    assert_same_run(second, first)


def test_single_inputs_and_other_seeds_encode_nothing(encode_counter: EncodeCounter, own_cache: Path) -> None:
    columns, recipe = table_and_recipe()
    fit(columns, "y_classification", recipe=recipe)
    encoded(encode_counter)
    recipe["evaluation"]["unimodal_scores"] = "train"
    fit(columns, "y_classification", recipe=recipe | {"seed": 5, "fusion": "mean"})
    assert encoded(encode_counter) == 0


def test_folds_encode_each_item_once(encode_counter: EncodeCounter, own_cache: Path) -> None:
    columns, recipe = table_and_recipe()
    recipe["evaluation"]["unimodal_scores"] = "train"
    cross_validate(columns, "y_classification", recipe=recipe, folds=3)
    assert encoded(encode_counter) == distinct(columns["text"]) + distinct(columns["image"])
    fit(columns, "y_classification", recipe=recipe)
    assert encoded(encode_counter) == 0


def test_another_order_of_rows_encodes_nothing_and_a_new_row_itself(
    encode_counter: EncodeCounter,
    own_cache: Path,
) -> None:
    columns, recipe = table_and_recipe()
    fit(columns, "y_classification", recipe=recipe)
    encoded(encode_counter)
    order = np.random.default_rng(0).permutation(ROWS)
    fit({name: [cells[row] for row in order] for name, cells in columns.items()}, "y_classification", recipe=recipe)
    assert encoded(encode_counter) == 0
    more = {"text": "quite new", "image": columns["image"][0], "y_classification": "yes"}
    fit({name: [*cells, more[name]] for name, cells in columns.items()}, "y_classification", recipe=recipe)
    assert encoded(encode_counter) == 1


# Interrupted runs resume.

SCRIPT = """
import os, signal, sys, torch
torch.set_num_threads(1)
sys.path.insert(0, {tests!r})
from pathlib import Path
import polymodal.preparation.feature_cache as features
from polymodal.nn.encoders.pretrained_text import PretrainedText
from preparation.test_feature_cache import encode_texts
features.FLUSH_BYTES, features.BATCH_ITEMS = 1, 4
encode_frozen, calls = PretrainedText.encode_frozen, []
def killed_in_the_fourth(encoder, data):
    calls.append(1)
    if len(calls) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return encode_frozen(encoder, data)
PretrainedText.encode_frozen = killed_in_the_fourth
encode_texts(Path({folder!r}), {model!r})
"""


def encode_texts(folder: Path, model: str) -> Experiment:

    from polymodal.model.make_network import make_network

    columns, recipe = table_and_recipe()
    text = recipe["inputs"]["in_text"]
    text["encoder"]["checkpoint"] = model
    table = table_of({name: columns[name] for name in ("text", "y_classification")})
    found = experiment(
        {"train": table, "validation": table}, folder / "prepared", **recipe | {"inputs": {"in_text": text}}
    )
    found.features.folder = folder / "cache"
    found.feature_splits(make_network(found.recipe, found.preparation, pretrained=True), Progress(False))
    return found


def test_killed_in_the_middle_of_encoding_only_the_rest_is_encoded(
    encode_counter: EncodeCounter,
    tmp_path: Path,
) -> None:
    model = checkpoint("text")
    script = SCRIPT.format(tests=str(Path(__file__).parents[1]), folder=str(tmp_path), model=model)
    ended: Any = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    encode_texts(tmp_path, model)
    assert encode_counter.taken("pretrained_text") == ROWS - 3 * 4
    encode_texts(tmp_path, model)
    assert encode_counter.taken("pretrained_text") == 0


def augmented_experiment(folder: Path, cache: Path) -> Experiment:
    columns, recipe = table_and_recipe()
    recipe["inputs"]["in_image"]["modality"] = {"name": "image", "horizontal_flip": True, "brightness": 0.5}
    recipe["training"] = {
        **TRAINING,
        "epochs": 3,
        "batch_size": 8,
        "save_steps": 2,
        "feature_cache": {"augmented_copies": 3},
    }
    table = table_of(columns)
    found = experiment({"train": table, "validation": table}, folder, **recipe)
    found.features.folder = cache
    return found


def test_a_run_with_augmented_copies_resumes_to_the_bit(tmp_path: Path) -> None:
    """Killed after any step; the resumed run opens the features of the killed run again."""
    whole = train_model(augmented_experiment(tmp_path / "a", tmp_path / "cache"), progress=Progress(False))
    for step in (1, 2, 4, 7):
        run = tmp_path / f"run{step}"
        run.mkdir()
        with pytest.raises(Killed):
            train_model(
                augmented_experiment(tmp_path / f"b{step}", tmp_path / "cache"), folder=run, progress=KilledAt(step)
            )
        torch.manual_seed(step)
        again = augmented_experiment(tmp_path / f"c{step}", tmp_path / "cache")
        assert_same_run(train_model(again, folder=run, resume=True, progress=Progress(False)), whole)


def test_encoding_takes_nothing_from_the_random_numbers_of_training(tmp_path: Path) -> None:
    """A run that encodes its items trains as a run that finds their features, in memory or in a store."""
    first = train_model(augmented_experiment(tmp_path / "a", tmp_path / "cache"), progress=Progress(False))
    second = train_model(augmented_experiment(tmp_path / "b", tmp_path / "cache"), progress=Progress(False))
    assert_same_run(second, first)
    in_memory = augmented_experiment(tmp_path / "c", tmp_path / "cache")
    in_memory.features.folder = None
    assert_same_run(train_model(in_memory, progress=Progress(False)), first)


# The same training with and without.

TUNED: dict[str, dict[str, Any]] = {
    "frozen": {},
    "tokens": {"max_tokens": None},
    "last": {"fine_tuning": "last", "num_layers": 1},
    "lora": {"fine_tuning": "lora", "num_layers": 1, "max_tokens": 3},
}


def without_dropout(modality: str, folder: Path) -> str:
    """The tiny checkpoint without dropout: the order of rows in a batch, and so what is dropped, follows lengths."""
    shutil.copytree(checkpoint(modality), folder)
    config = json.loads((folder / "config.json").read_text())
    write(folder / "config.json", {key: 0.0 if "drop" in key else value for key, value in config.items()})
    return str(folder)


def trained(folder: Path, cache: bool, modality: str, model: str, tuned: dict[str, Any]) -> Model:
    columns, recipe = sample_table([modality], ["regression"], rows=12)
    columns[next(iter(columns))][3] = None
    encoder = {"name": f"pretrained_{modality}", "checkpoint": model, **tuned}
    recipe["inputs"][f"in_{modality}"] |= {"modality": modality, "encoder": encoder}
    features = {"enabled": cache, "dtype": "fp32"}
    recipe["training"] = {
        **TRAINING,
        "epochs": 4,
        "batch_size": 12,  # one batch, since lengths order the rows of more
        "modality_dropout": 0.0,
        "learning_rate": 0.01,
        "feature_cache": features,
    }
    recipe["outputs"]["y_regression"] = {"task": "regression", "decoder": {"name": "mlp", "dropout": 0.0}}
    table = table_of(columns)
    found = experiment({"train": table, "validation": table}, folder, **recipe, seed=0, fusion="mean")
    found.features.folder = folder / "cache"
    torch.manual_seed(0)
    return train_model(found, progress=Progress(False))


@pytest.mark.parametrize("tuned", TUNED)
@pytest.mark.parametrize("modality", ["text", "image", "audio", "video"])
def test_training_on_cached_features_is_the_same_training(modality: str, tuned: str, tmp_path: Path) -> None:
    model = without_dropout(modality, tmp_path / "checkpoint")
    kept, whole = (trained(tmp_path / str(cache), cache, modality, model, TUNED[tuned]) for cache in (True, False))
    losses = [[epoch.loss["y_regression"] for epoch in one.run.history] for one in (kept, whole)]
    np.testing.assert_allclose(losses[0], losses[1], atol=1e-4)
    assert len({round(loss, 6) for loss in losses[0]}) == 4
    columns, _ = sample_table([modality], ["regression"], rows=12)
    inputs = {name: cells for name, cells in columns.items() if name != "y_regression"}
    answers = [one.predict(inputs) for one in (kept, whole)]
    np.testing.assert_allclose(answers[0], answers[1], rtol=1e-3)
