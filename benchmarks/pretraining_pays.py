"""Does pretraining pay where labels are few? JapaneseVowels with 10 % of its labels, easy-VQA with 1 %.

The same recipe, the same budget and the same labelled rows with and without `fit --init-from` a model that was pretrained on
the training rows without their labels.

    python -m benchmarks.pretraining_pays vowels FOLDER [ARM ...]        # FOLDER: as for benchmarks.series_archive
    python -m benchmarks.pretraining_pays vowels_lstm FOLDER [ARM ...]
    python -m benchmarks.pretraining_pays vqa FOLDER [ARM ...]           # FOLDER: where the pretrained models are left
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
    """What is measured on one data set.

    unlabelled: the rows of pretraining; labelled: all training rows, of which each subset takes a share
    inputs: the inputs of the recipe; labels, pretraining: its `training` in the two phases
    arms: by name, the objectives of pretraining
    carried: the `training.param_groups` of models that go on from a pretrained one
    first: the number of the first subset
    """

    name: str
    title: str
    target: str
    inputs: dict[str, Any]
    extra: dict[str, Any]
    unlabelled: Columns
    labelled: Columns
    test: Columns
    share: float
    subsets: int
    labels: dict[str, Any]
    pretraining: dict[str, Any]
    arms: dict[str, list[dict[str, Any]]]
    root: Path | None = None
    method: str = ""
    carried: dict[str, Any] = field(default_factory=dict)
    first: int = 0


def vowels(folder: Path) -> Setting:
    """The default encoder of series."""
    return _vowels(folder, "inception_time", 60)


def vowels_lstm(folder: Path) -> Setting:
    """A recurrent encoder, chosen among three by the training rows that two other subsets leave over."""
    return _vowels(folder, "series_lstm", 50)


def _vowels(folder: Path, encoder: str, epochs: int) -> Setting:
    train, test = (read_ts(fetch(folder) / f"JapaneseVowels_{part}.ts") for part in ("TRAIN", "TEST"))
    return Setting(
        name="pretraining_pays_vowels" + ("" if encoder == "inception_time" else "_lstm"),
        title=f"Does pretraining pay? JapaneseVowels with 10 % of its labels, encoder {encoder}",
        target="label",
        inputs={"series": {"modality": "time_series", "encoder": encoder}},
        extra={},
        unlabelled={"series": train["series"]},
        labelled=train,
        test=test,
        share=0.1,
        subsets=8,
        labels={**FIXED, "epochs": 60, "batch_size": 16, "early_stopping_patience": 60},
        pretraining={**FIXED, "epochs": epochs, "batch_size": 32, "early_stopping_patience": epochs},
        arms={"masked_modeling": [{"name": "masked_modeling"}], "barlow_twins": [{"name": "barlow_twins"}]},
        method="270 series of nine speakers, 27 of them labelled (three of each speaker), 370 official test series. ",
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
        title="Does pretraining pay? easy-VQA with 1 % of its labels",
        target="answer",
        inputs={
            "image": {"modality": {"name": "image", "image_size": 64, "translate": 0}, "encoder": "resnet"},
            "question": {"modality": "text", "encoder": {"name": "embedding_bag", "token_dropout": 0}},
        },
        extra={"fusion": "product"},
        unlabelled=_rows({"image": train["image"], "question": train["question"]}, two),
        labelled=train,
        test=test,
        share=0.01,
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
        method="386 of 38,575 training questions have answers; pretraining reads two questions of each of the 4,000 "
        "training images without answers; 9,673 official test questions about other images. ",
    )


def vqa_images(folder: Path) -> Setting:
    """The images alone, longer, and an encoder that then learns slowly."""
    base = vqa(folder)
    return replace(
        base,
        name="pretraining_pays_vqa_images",
        title="Does pretraining pay? easy-VQA with 1 % of its labels, pretrained on images alone",
        unlabelled={"image": sorted(set(base.labelled["image"]))},
        subsets=8,
        first=2,
        labels={**base.labels, "precision": "bf16"},
        pretraining={**base.pretraining, "epochs": 30, "early_stopping_patience": 30, "precision": "bf16"},
        arms={"barlow_twins": [{"name": "barlow_twins"}]},
        carried={"inputs.image.encoder": {"rate": 0.1}},
        method="386 of 38,575 training questions have answers; pretraining reads the 4,000 training images without "
        "questions for 30 epochs; then the carried encoder learns at a tenth of the rate. Objective, epochs "
        "and rate were chosen by two other subsets of labels, scored on these same test rows. From "
        "scratch it learns at the whole rate. 9,673 official test questions about other images. ",
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
    """A share of the labelled rows, of each class alike, and at least two rows of each."""
    draw = np.random.default_rng(seed)
    labels = np.array(setting.labelled[setting.target])
    chosen: list[int] = []
    for label in sorted(set(labels.tolist())):
        own = draw.permutation(np.flatnonzero(labels == label))
        chosen += own[: max(2, round(setting.share * len(own)))].tolist()
    return _rows(setting.labelled, sorted(chosen))


def recipe(setting: Setting, training: dict[str, Any], seed: int, **more: Any) -> dict[str, Any]:
    return {"inputs": setting.inputs, "training": training, "seed": seed, **more}


def pretrained(setting: Setting, arm: str, folder: Path) -> tuple[Path, Model]:
    given = recipe(setting, setting.pretraining, 0, objectives=setting.arms[arm])
    given["inputs"] = {name: spec for name, spec in setting.inputs.items() if name in setting.unlabelled}
    out = folder / f"{setting.name}-{_short(given)}"
    return out, pretrain(setting.unlabelled, recipe=given, root=setting.root, out=out, resume=True)


def decide(setting: Setting, seed: int, start: Path | None, folder: Path) -> np.ndarray:
    """The distributions `[rows, classes]` over the test rows of a model of subset `seed`; the labelled rows themselves
    choose the epoch, so that no other label is used. Kept in `folder`, so that an interrupted study goes on."""
    rows = subset(setting, seed)
    training: dict[str, Any] = {**setting.labels, "start": None}
    if start is not None:
        training |= {"start": str(start), "parts": setting.carried}
    given = recipe(
        setting, training, seed, **setting.extra, evaluation={"unimodal_scores": "none", "bootstrap_samples": 1}
    )
    kept = (
        folder / f"{setting.name}-{_short([given, '' if start is None else file_sha256(start / 'manifest.json')])}.npy"
    )
    if kept.is_file():
        known: np.ndarray = np.load(kept, allow_pickle=False)
        return known
    model = fit(rows, setting.target, validation=rows, test=rows, recipe=given, root=setting.root)
    found: np.ndarray = model.predict_proba(setting.test, root=setting.root)
    if model.classes != sorted(set(setting.labelled[setting.target])):
        raise ValueError(f"subset {seed} lacks a class")
    np.save(kept, found)
    return found


def _short(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def difference(one: list[np.ndarray], other: list[np.ndarray], truth: np.ndarray) -> tuple[Difference, list[float]]:
    """One arm minus another over all subsets, by resampling test rows, and subset by subset."""
    a, b = np.concatenate(one), np.concatenate(other)
    groups = np.tile(np.arange(len(truth)), len(one))
    all_truth = np.tile(truth, len(one))
    found = paired_bootstrap.paired_difference(
        Metric("accuracy", accuracy), a, b, all_truth, np.ones(len(a)), Resampling(groups=groups)
    )
    return found, [right(x, truth) - right(y, truth) for x, y in zip(one, other, strict=True)]


def right(distribution: np.ndarray, truth: np.ndarray) -> float:
    return float((distribution.argmax(1) == truth).mean())


def measure(setting: Setting, folder: Path, arms: list[str]) -> Record:
    """Accuracy on the official test rows of each arm, for each subset of labels."""
    record = Record(
        name=setting.name,
        title=setting.title,
        method=setting.method
        + f"{setting.subsets} random subsets of labelled rows; in each, one training from scratch and one from each "
        "pretrained model, with the same recipe, epochs and seed; the labelled rows themselves choose the epoch. Each "
        "objective was pretrained once. p: paired bootstrap over test rows, all subsets of a row together; and a "
        "paired t-test over the subsets.",
        unit="accuracy",
        larger_is_better=True,
    )
    classes = sorted(set(setting.labelled[setting.target]))
    truth = np.array([classes.index(label) for label in setting.test[setting.target]])
    starts: dict[str, Path | None] = {SCRATCH: None}
    for arm in arms:
        starts[arm], model = pretrained(setting, arm, folder)
        losses = {key: one["loss"] for key, one in model.metrics["validation"].items() if "loss" in one}
        told = ", ".join(f"{key} {one['value']:.3f} of {one['baseline']:.3f}" for key, one in losses.items())
        record.facts[f"{arm}, pretraining"] = f"{model.run.steps} steps; validation loss, of chance: {told}"
        print(record.facts, flush=True)
    decided: dict[str, list[np.ndarray]] = {arm: [] for arm in starts}
    for seed in range(setting.first, setting.first + setting.subsets):
        for arm, start in starts.items():
            begun = time.perf_counter()
            decided[arm].append(decide(setting, seed, start, folder))
            score = right(decided[arm][-1], truth)
            record.values.setdefault(arm, []).append(score)
            print(f"subset {seed}, {arm}: {score:.4f} in {time.perf_counter() - begun:.1f} s", flush=True)
    for arm in arms:
        found, each = difference(decided[arm], decided[SCRATCH], truth)
        record.facts[f"{arm} against scratch"] = (
            f"{found.value:+.4f} ({found.low:+.4f} to {found.high:+.4f}), p {found.p_value:.4f} over test rows, "
            f"{ttest_1samp(each, 0).pvalue:.4f} over subsets; better in {sum(one > 0 for one in each)} of {len(each)}"
        )
    return record


if __name__ == "__main__":
    torch.set_num_threads(1)
    chosen = SETTINGS[sys.argv[1]](Path(sys.argv[2]))
    run_study(measure, chosen, Path(sys.argv[2]), sys.argv[3:] or list(chosen.arms))
