"""Does pretraining help with few labels? JapaneseVowels with 10 % of its labels, easy-VQA with 1 %.

The same recipe, budget and labeled rows, with and without `fit --init-from` a model that was pretrained on the
training rows without their labels.

    python -m benchmarks.pretraining_pays vowels FOLDER [ARM ...]        # FOLDER: as for benchmarks.series_archive
    python -m benchmarks.pretraining_pays vowels_lstm FOLDER [ARM ...]
    python -m benchmarks.pretraining_pays vqa FOLDER [ARM ...]           # FOLDER: for the pretrained models
    python -m benchmarks.pretraining_pays vqa_images FOLDER
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import ttest_1samp

from benchmarks.record import Record, run_study
from benchmarks.series_archive import fetch, read_ts
from polymodal.checkpoint.model_directory import file_sha256
from polymodal.datasets.easy_vqa import load_easy_vqa
from polymodal.evaluation import paired_bootstrap
from polymodal.evaluation.intervals import Resampling
from polymodal.evaluation.paired_bootstrap import Difference
from polymodal.metrics.base import Metric
from polymodal.metrics.classification import accuracy
from polymodal.model.model import Model
from polymodal.workflows.fit import fit, pretrain

Columns = dict[str, Any]
FIXED: dict[str, Any] = {"num_threads": 1, "precision": "fp32"}
SCRATCH = "from scratch"


@dataclass
class Setting:
    """The experiment on one data set.

    unlabeled: the rows for pretraining; labeled: all training rows, from which each subset takes a fraction
    inputs: the inputs of the recipe; labels, pretraining: its `training` in the two phases
    arms: by name, the objectives of pretraining
    param_groups: the `training.param_groups` of models that start from a pretrained one
    first_subset: the number of the first subset
    """

    name: str
    title: str
    target: str
    inputs: dict[str, Any]
    extra: dict[str, Any]
    unlabeled: Columns
    labeled: Columns
    test: Columns
    fraction: float
    subsets: int
    labels: dict[str, Any]
    pretraining: dict[str, Any]
    arms: dict[str, list[dict[str, Any]]]
    root: Path | None = None
    method: str = ""
    param_groups: dict[str, Any] = field(default_factory=dict)
    first_subset: int = 0


def vowels(folder: Path) -> Setting:
    """The default encoder of time series."""
    return _vowels(folder, "inception_time", 60)


def vowels_lstm(folder: Path) -> Setting:
    """A recurrent encoder, selected among three by the unused training rows of two other subsets."""
    return _vowels(folder, "series_lstm", 50)


def _vowels(folder: Path, encoder: str, epochs: int) -> Setting:
    train, test = (read_ts(fetch(folder) / f"JapaneseVowels_{part}.ts") for part in ("TRAIN", "TEST"))
    return Setting(
        name="pretraining_pays_vowels" + ("" if encoder == "inception_time" else "_lstm"),
        title=f"Does pretraining help? JapaneseVowels with 10 % of its labels, encoder {encoder}",
        target="label",
        inputs={"series": {"modality": "time_series", "encoder": encoder}},
        extra={},
        unlabeled={"series": train["series"]},
        labeled=train,
        test=test,
        fraction=0.1,
        subsets=8,
        labels={**FIXED, "epochs": 60, "batch_size": 16, "early_stopping_patience": 60},
        pretraining={**FIXED, "epochs": epochs, "batch_size": 32, "early_stopping_patience": epochs},
        arms={"masked_modeling": [{"name": "masked_modeling"}], "barlow_twins": [{"name": "barlow_twins"}]},
        method="270 time series of nine speakers, 27 of them labeled (three per speaker), 370 official test series. ",
    )


def vqa(folder: Path) -> Setting:
    tables, root = load_easy_vqa()
    train, test = tables["train"].to_pydict(), tables["test"].to_pydict()
    draw = np.random.default_rng(0)
    by_image: dict[str, list[int]] = {}
    for row, image in enumerate(train["image"]):
        by_image.setdefault(image, []).append(row)
    two = [int(row) for rows in by_image.values() for row in draw.permutation(rows)[:2]]
    return Setting(
        name="pretraining_pays_vqa",
        title="Does pretraining help? easy-VQA with 1 % of its labels",
        target="answer",
        inputs={
            "image": {"modality": {"name": "image", "image_size": 64, "translate": 0}, "encoder": "resnet"},
            "question": {"modality": "text", "encoder": {"name": "embedding_bag", "token_dropout": 0}},
        },
        extra={"fusion": "product"},
        unlabeled=_rows({"image": train["image"], "question": train["question"]}, two),
        labeled=train,
        test=test,
        fraction=0.01,
        subsets=4,
        labels={**FIXED, "epochs": 40, "batch_size": 32, "early_stopping_patience": 40, "modality_dropout": 0},
        pretraining={**FIXED, "epochs": 8, "batch_size": 128, "early_stopping_patience": 8},
        arms={
            "contrastive": [{"name": "contrastive"}],
            "masked image": [{"name": "masked_modeling", "inputs": ["image"]}],
            "redundancy image": [{"name": "barlow_twins", "inputs": ["image"]}],
            "masked question from image": [
                {"name": "masked_multimodal_modeling", "predicted_inputs": ["question"], "mask_ratio": 0.5}
            ],
        },
        root=root,
        method="386 of 38,575 training questions have answers; pretraining uses two questions about each of the 4,000 "
        "training images without answers; 9,673 official test questions about other images. ",
    )


def vqa_images(folder: Path) -> Setting:
    """Longer pretraining on images only, and fine-tuning of the encoder with a lower learning rate."""
    base = vqa(folder)
    return replace(
        base,
        name="pretraining_pays_vqa_images",
        title="Does pretraining help? easy-VQA with 1 % of its labels, pretrained on images only",
        unlabeled={"image": sorted(set(base.labeled["image"]))},
        subsets=8,
        first_subset=2,
        labels={**base.labels, "precision": "bf16"},
        pretraining={**base.pretraining, "epochs": 30, "early_stopping_patience": 30, "precision": "bf16"},
        arms={"barlow_twins": [{"name": "barlow_twins"}]},
        param_groups={"inputs.image.encoder": {"lr_multiplier": 0.1}},
        method="386 of 38,575 training questions have answers; pretraining uses the 4,000 training images without "
        "questions for 30 epochs; then the pretrained encoder learns at a tenth of the learning rate. Objective, "
        "epochs and rate were chosen on two other subsets of labels, scored on these same test rows. From scratch the "
        "encoder learns at the full rate. 9,673 official test questions about other images. ",
    )


SETTINGS: dict[str, Callable[[Path], Setting]] = {
    "vowels": vowels,
    "vowels_lstm": vowels_lstm,
    "vqa": vqa,
    "vqa_images": vqa_images,
}


def _rows(columns: Columns, rows: Any) -> Columns:
    return {name: [cells[row] for row in rows] for name, cells in columns.items()}


def subset(setting: Setting, seed: int) -> Columns:
    """The same fraction of the labeled rows of each class, at least two rows per class."""
    draw = np.random.default_rng(seed)
    labels = np.array(setting.labeled[setting.target])
    chosen: list[int] = []
    for label in sorted(set(labels.tolist())):
        own = draw.permutation(np.flatnonzero(labels == label))
        chosen += own[: max(2, round(setting.fraction * len(own)))].tolist()
    return _rows(setting.labeled, sorted(chosen))


def recipe(setting: Setting, training: dict[str, Any], seed: int, **more: Any) -> dict[str, Any]:
    return {"inputs": setting.inputs, "training": training, "seed": seed, **more}


def pretrained_model(setting: Setting, arm: str, folder: Path) -> tuple[Path, Model]:
    recipe_values = recipe(setting, setting.pretraining, 0, objectives=setting.arms[arm])
    recipe_values["inputs"] = {name: spec for name, spec in setting.inputs.items() if name in setting.unlabeled}
    out = folder / f"{setting.name}-{_short(recipe_values)}"
    return out, pretrain(setting.unlabeled, recipe=recipe_values, root=setting.root, out=out, resume=True)


def test_distribution(setting: Setting, seed: int, init_from: Path | None, folder: Path) -> np.ndarray:
    """Predicted distributions `[rows, classes]` of the test rows by a model of subset `seed`. The labeled rows are
    also the validation rows, so that no other label is used. Saved in `folder`, so that an interrupted study can
    resume."""
    rows = subset(setting, seed)
    training: dict[str, Any] = {**setting.labels, "init_from": None}
    if init_from is not None:
        training |= {"init_from": str(init_from), "param_groups": setting.param_groups}
    recipe_values = recipe(
        setting, training, seed, **setting.extra, evaluation={"unimodal_scores": "none", "bootstrap_samples": 1}
    )
    manifest = "" if init_from is None else file_sha256(init_from / "manifest.json")
    saved = folder / f"{setting.name}-{_short([recipe_values, manifest])}.npy"
    if saved.is_file():
        known: np.ndarray = np.load(saved, allow_pickle=False)
        return known
    model = fit(rows, setting.target, validation=rows, test=rows, recipe=recipe_values, root=setting.root)
    found: np.ndarray = model.predict_proba(setting.test, root=setting.root)
    if model.classes != sorted(set(setting.labeled[setting.target])):
        raise ValueError(f"subset {seed} lacks a class")
    np.save(saved, found)
    return found


def _short(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def difference(one: list[np.ndarray], other: list[np.ndarray], truth: np.ndarray) -> tuple[Difference, list[float]]:
    """The difference of two arms over all subsets, by resampling test rows, and subset by subset."""
    a, b = np.concatenate(one), np.concatenate(other)
    groups = np.tile(np.arange(len(truth)), len(one))
    all_truth = np.tile(truth, len(one))
    found = paired_bootstrap.paired_difference(
        Metric("accuracy", accuracy), a, b, all_truth, np.ones(len(a)), Resampling(groups=groups)
    )
    return found, [accuracy_of(x, truth) - accuracy_of(y, truth) for x, y in zip(one, other, strict=True)]


def accuracy_of(distribution: np.ndarray, truth: np.ndarray) -> float:
    return float((distribution.argmax(1) == truth).mean())


def measure(setting: Setting, folder: Path, arms: list[str]) -> Record:
    """Accuracy on the official test rows of each arm, for each subset of labels."""
    record = Record(
        name=setting.name,
        title=setting.title,
        method=setting.method
        + f"{setting.subsets} random subsets of labeled rows; in each, one training from scratch and one from each "
        "pretrained model, with the same recipe, epochs and seed; the labeled rows are also the validation rows. Each "
        "objective was pretrained once. p: paired bootstrap over test rows, all subsets of a row together; and a "
        "paired t-test over the subsets.",
        unit="accuracy",
        larger_is_better=True,
    )
    classes = sorted(set(setting.labeled[setting.target]))
    truth = np.array([classes.index(label) for label in setting.test[setting.target]])
    init_models: dict[str, Path | None] = {SCRATCH: None}
    for arm in arms:
        init_models[arm], model = pretrained_model(setting, arm, folder)
        losses = {key: one["loss"] for key, one in model.metrics["validation"].items() if "loss" in one}
        losses_text = ", ".join(f"{key} {one['value']:.3f} of {one['baseline']:.3f}" for key, one in losses.items())
        record.facts[f"{arm}, pretraining"] = f"{model.run.steps} steps; validation loss of baseline: {losses_text}"
        print(record.facts, flush=True)
    predicted: dict[str, list[np.ndarray]] = {arm: [] for arm in init_models}
    for seed in range(setting.first_subset, setting.first_subset + setting.subsets):
        for arm, init_from in init_models.items():
            began = time.perf_counter()
            predicted[arm].append(test_distribution(setting, seed, init_from, folder))
            score = accuracy_of(predicted[arm][-1], truth)
            record.values.setdefault(arm, []).append(score)
            print(f"subset {seed}, {arm}: {score:.4f} in {time.perf_counter() - began:.1f} s", flush=True)
    for arm in arms:
        found, each = difference(predicted[arm], predicted[SCRATCH], truth)
        record.facts[f"{arm} against scratch"] = (
            f"{found.value:+.4f} ({found.low:+.4f} to {found.high:+.4f}), p {found.p_value:.4f} over test rows, "
            f"{ttest_1samp(each, 0).pvalue:.4f} over subsets; better in {sum(one > 0 for one in each)} of {len(each)}"
        )
    return record


if __name__ == "__main__":
    torch.set_num_threads(1)
    chosen = SETTINGS[sys.argv[1]](Path(sys.argv[2]))
    run_study(measure, chosen, Path(sys.argv[2]), sys.argv[3:] or list(chosen.arms))
