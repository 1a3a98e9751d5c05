"""Law 5, for the recipe itself: every key changes the rows, the prepared data, the run or its scores.

As for options, other values come from each key's type and range. A key that changes nothing fails; one that is live
only together with others has a line in `BESIDE`.

`test_dead_keys.py` is the second half of the law.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

import pytest
import torch
import yaml
from pydantic import BaseModel

from laws.alternatives import alternatives, exhaustive
from laws.samples import FIXED, Columns, light, sample, sample_table, small, table_of
from laws.signature import digest
from polymodal.core.errors import PolymodalError
from polymodal.core.progress import Progress, ProgressTask
from polymodal.data.partition import make_splits
from polymodal.data.table.concat import ConcatTable
from polymodal.experiments.experiment import prepare_experiment
from polymodal.experiments.live_options import check_live_options
from polymodal.experiments.plan import complete_schedule, make_plan
from polymodal.experiments.score import score_model
from polymodal.experiments.train import train_model
from polymodal.preparation.feature_cache import feature_dtype
from polymodal.recipe.data import DataOptions
from polymodal.recipe.evaluation import EvaluationOptions
from polymodal.recipe.recipe import InputSpec, OutputSpec, Recipe
from polymodal.recipe.run_context import RunContext
from polymodal.recipe.training import FeatureCacheOptions, ParamGroupOptions, TrainingOptions

ROWS = 48
#: The sample column of each of these modalities.
MEDIA_COLUMNS = {"audio": "sound", "video": "clip", "time_series": "time_series"}
BASE: dict[str, Any] = {
    "hidden_size": 16,
    "training": {**FIXED, "epochs": 3, "batch_size": 8},
    "evaluation": {"bootstrap_samples": 20, "unimodal_scores": "none"},
}
MEDIA = {"inputs": {"in_image": "image", "in_number": "number"}}
TWO = {"outputs": {"y_classification": "classification", "y_regression": "regression"}}
TAUGHT = {"privileged": "in_text"}
FROZEN = {"encoders": {"in_text": "pretrained_text"}}
TURNED = {
    "inputs": {"in_image": "image"},
    "encoders": {"in_image": "pretrained_image"},
    "modalities": {"in_image": {"horizontal_flip": True, "brightness": 0.5}},
}
#: There are few validation rows, so the required precision is low.
SURE = {"min_precision": 0.01}
SOME_LABELS = {"outputs": {"y_some": "classification"}, "training": {"pseudo_labels": {"rounds": 1, **SURE}}}
#: Keys of the number format of features: nothing to choose where the processor does not compute in bf16.
OF_BF16 = ["training.feature_cache.enabled", "training.feature_cache.dtype"]
#: Other keys that a key needs to be live.
BESIDE: dict[str, dict[str, Any]] = {
    "data.ignore_columns": {"inputs": None},
    "data.strict": {"inputs": {"in_text": "text", "in_broken": "number"}},
    "data.limits.megabytes": MEDIA,
    "data.limits.megapixels": MEDIA,
    **{f"data.limits.{key}": {"inputs": {"in_audio": "audio"}} for key in ("seconds", "channels", "sampling_rate")},
    "data.limits.frames": {"inputs": {"in_video": "video"}},
    "data.limits.values": {"inputs": {"in_time_series": "time_series"}},
    **{f"training.distillation.{key}": TAUGHT for key in ("weight", "temperature")},
    **dict.fromkeys(OF_BF16, FROZEN),
    "training.feature_cache.augmented_copies": TURNED,
    "training.group_by_item": MEDIA,
    "training.loss_balancing": TWO,
    "training.modality_balancing.method": {
        **TWO,
        "fusion": "hybrid",
        "training": {"epochs": 10},
    },
    "training.modality_balancing.alpha": {"training": {"modality_balancing": {"method": "ogm"}}},
    "training.modality_balancing.interval_epochs": {
        "fusion": "hybrid",
        "training": {"modality_balancing": {"method": "gradient_blending"}},
    },
    "task_tokens": TWO,
    "training.early_stopping_patience": {"training": {"epochs": 9, "learning_rate": 0.1}},
    "training.average_top_k": {
        "inputs": {"in_number": "number"},
        "seed": 5,  # the average of the best epochs validates better than each of them
        "training": {"epochs": 24, "learning_rate": 0.03},
    },
    **{f"training.pseudo_labels.{key}": SOME_LABELS for key in ("rounds", "min_precision", "class_balanced", "weight")},
    "outputs.y_classification.loss_weight": TWO,
}
#: Values that depend on the table; for limits, values that its media and its short runs exceed.
NAMED: dict[str, list[Any]] = {
    **{f"data.limits.{key}": [1] for key in ("frames", "channels", "sampling_rate", "values")},
    **{f"data.limits.{key}": [0.001] for key in ("seconds", "megabytes", "megapixels")},
    "training.logging_steps": [1],
    "training.save_steps": [1],
    "data.ignore_columns": [["skewed"]],
    "data.weight_column": ["weight"],
    "data.split.column": ["part"],
    "data.split.group_column": ["patient"],
    "training.num_threads": ["auto"],
    "training.device": ["cuda:63"],
}
#: Keys that bound decoding processes and change no result; tests/data/media/test_pool.py has what they do.
ON_PROCESSES = ["data.limits.timeout_seconds", "data.limits.memory_mib", "data.limits.num_workers"]
#: Keys of training from a store of prepared rows; tests/applications/batch_preparation has what they do.
OF_A_STORE = ["data.shuffle_groups"]
#: Keys that several processes make live; tests/distributed has what they do.
OF_SEVERAL_PROCESSES = ["training.sharding"]
#: Keys that name a saved model.
OF_A_MODEL = ["training.distillation.teacher", "training.init_from"]
#: Keys that only several data sets make live: here, the rows of the table in two unequal halves.
OF_SEVERAL = ["data.sampling_temperature"]
#: Keys whose effect is that the run is refused; limits that leave no usable cell are among them.
LIMITS = ("megabytes", "megapixels", "seconds", "frames", "channels", "sampling_rate", "values")
REFUSING = ["data.strict", "training.device", *(f"data.limits.{key}" for key in LIMITS)]
#: Each section, and a mapping's model under one of its names.
SECTIONS: dict[str, type[BaseModel]] = {
    "data": DataOptions,
    "training": TrainingOptions,
    "training.param_groups.fusion": ParamGroupOptions,
    "evaluation": EvaluationOptions,
}
TOP = ["size", "hidden_size", "seed", "task_tokens"]


def walk(path: str, model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel], str]]:
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from walk(f"{path}.{name}", inner)
        elif f"{path}.{name}" != "training.param_groups":  # a mapping of `ParamGroupOptions`, walked under a name
            yield f"{path}.{name}", model, name


NOT_HERE = [*ON_PROCESSES, *OF_A_STORE, *OF_SEVERAL_PROCESSES]
KEYS = [
    *(key for path, model in SECTIONS.items() for key in walk(path, model) if key[0] not in NOT_HERE),
    *((name, Recipe, name) for name in TOP),
    ("outputs.y_classification.loss_weight", OutputSpec, "loss_weight"),
    ("inputs.in_text.privileged", InputSpec, "privileged"),
]


@cache
def table() -> Columns:
    columns, _ = sample_table(["text", "number"], ["classification", "regression"], ROWS)
    pictures = []
    for image in sample("modality", "image", ROWS)["image"]:
        encoded = io.BytesIO()
        image.save(encoded, "PNG")
        pictures.append(encoded.getvalue())
    return columns | {
        "image": pictures,
        **{column: sample("modality", name, ROWS)[column] for name, column in MEDIA_COLUMNS.items()},
        "y_some": [None if row % 3 else y for row, y in enumerate(columns["y_classification"])],
        "weight": [0.25 + row % 4 for row in range(ROWS)],
        "part": [("train", "validation", "test")[max(0, row - ROWS + 3)] for row in range(ROWS)],
        "patient": [f"patient {row // 6}" for row in range(ROWS)],
        "broken": ["not a number", *["1.5", "2.5"] * (ROWS // 2 - 1), "3.5"],
    }


def in_two(columns: Columns) -> ConcatTable:
    """A quarter of the rows as one data set, the others as another."""
    cut = ROWS // 4
    halves = {"few": slice(cut), "many": slice(cut, None)}
    return ConcatTable(
        {name: table_of({key: cells[part] for key, cells in columns.items()}) for name, part in halves.items()}
    )


def merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    both = dict(one)
    for key, value in other.items():
        both[key] = merged(both[key], value) if isinstance(value, dict) and isinstance(both.get(key), dict) else value
    return both


def recipe_of(beside: dict[str, Any]) -> dict[str, Any]:
    columns = {"in_text": ["text"], "in_image": ["image"], "in_number": ["plain", "skewed"], "in_broken": ["broken"]}
    columns |= {f"in_{name}": [column] for name, column in MEDIA_COLUMNS.items()}
    beside = dict(beside)
    privileged = beside.pop("privileged", None)
    encoders, modalities = beside.pop("encoders", {}), beside.pop("modalities", {})
    inputs = beside.pop("inputs", {"in_text": "text", "in_number": "number"})
    outputs = beside.pop("outputs", {"y_classification": "classification"})
    recipe = merged(BASE, beside)
    recipe["outputs"] = {name: {"task": task} for name, task in outputs.items()}
    if inputs is not None:
        recipe["inputs"] = {name: {"modality": small(kind), "columns": columns[name]} for name, kind in inputs.items()}
        for name, options in modalities.items():
            recipe["inputs"][name]["modality"] |= options
        for name, encoder in encoders.items():
            recipe["inputs"][name]["encoder"] = light({"name": encoder})
        if privileged:
            recipe["inputs"][privileged]["privileged"] = True
    else:
        recipe["data"] = {
            "ignore_columns": [
                "image",
                "weight",
                "part",
                "patient",
                "broken",
                "y_regression",
                "y_some",
                *MEDIA_COLUMNS.values(),
            ]
        }
    return recipe


@cache
def teacher() -> str:
    """The directory of a model of the same outputs."""
    folder = mkdtemp(prefix="teacher-")
    with TemporaryDirectory() as place:
        data = table_of(table())
        complete = make_plan(data, Recipe(**recipe_of({"training": {"learning_rate": 0.02}}))).recipe
        parts = make_splits(complete, data, None, None)
        complete = complete_schedule(complete, len(parts["train"].rows))
        prepared = prepare_experiment(complete, parts, folder=Path(place), cache=None, progress=Progress(False))
        train_model(prepared, progress=Progress(False)).save(folder)
    return folder


class Watching(Progress):
    """Records the steps after which the checkpoint was written."""

    def __init__(self, checkpoint: Path) -> None:
        super().__init__(False)
        self.checkpoint, self.written, self.last = checkpoint, [], 0  # type: ignore[var-annotated]

    @contextmanager
    def task(self, title: str, total: int | None) -> Iterator[ProgressTask]:
        advance = ProgressTask()
        advance.status = self.watch  # type: ignore[method-assign]
        yield advance

    def watch(self, done: int, planned: int, text: str) -> None:
        now = self.checkpoint.stat().st_mtime_ns if self.checkpoint.exists() else 0
        if now != self.last:
            self.written.append(done)
        self.last = now


@cache
def outcome(recipe: str, several: bool = False) -> str | None:
    """A hash of all results of a run, except its recipe and its duration; None if the recipe is refused."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        try:
            data = in_two(table()) if several else table_of(table())
            given = Recipe(**yaml.safe_load(recipe))
            complete = make_plan(data, given).recipe
            check_live_options(RunContext(complete, given, data_sets=len(data.data_sets) or 1))
            parts = make_splits(complete, data, None, None)
            complete = complete_schedule(complete, len(parts["train"].rows))
            quiet = Progress(False)
            prepared = prepare_experiment(complete, parts, folder=folder / "prepared", cache=None, progress=quiet)
            (folder / "run").mkdir()
            watching = Watching(folder / "run" / "checkpoint.safetensors")
            model = train_model(prepared, folder=folder / "run", progress=watching)
            score_model(prepared, model, progress=quiet)
        except PolymodalError:
            return None
        everything = torch.arange(len(data)).numpy()
        return digest(
            {
                "rows": {part: found.rows for part, found in parts.items()},
                "batch": prepared.preparation.batch(prepared.splits["train"].table, everything),
                "cell errors": prepared.cell_errors.errors,
                "compute": model.run.compute,
                "run": {key: getattr(model.run, key) for key in ("steps", "history", "averaged_epochs")},
                "given labels": model.run.pseudo_labels,
                "checkpoints": watching.written,
                "log": (folder / "run" / "log.jsonl").read_text(),
                "files": sorted(path.name for path in (folder / "run").iterdir()),
                "weights": model.network.state_dict(),
                "scores": model.metrics,
            }
        )


@pytest.mark.parametrize(("path", "owner", "name"), KEYS, ids=[key[0] for key in KEYS])
def test_every_key_is_live(path: str, owner: type[BaseModel], name: str) -> None:
    if path in OF_BF16 and feature_dtype(FeatureCacheOptions()) != "bf16":
        pytest.skip("this processor does not compute in bf16")
    base = recipe_of(BESIDE.get(path, {}))
    several = path in OF_SEVERAL
    before = outcome(yaml.safe_dump(base), several)
    assert before is not None
    *above, _ = path.split(".")
    given = base
    for key in above:
        given = given.get(key, {})
    if owner in (Recipe, OutputSpec, InputSpec):
        given = {key: value for key, value in given.items() if key == name}
    tried: dict[str, bool] = {}
    every = exhaustive(owner.model_fields[name])
    named = [teacher()] if path in OF_A_MODEL else NAMED.get(path, [])
    for value in [*named, *alternatives(owner, name, given)]:
        change: Any = value
        for key in reversed(path.split(".")):
            change = {key: change}
        after = outcome(yaml.safe_dump(merged(base, change)), several)
        if (after is None and path not in REFUSING) or repr(value) in tried:
            continue
        tried[repr(value)] = after != before
        if after != before and not every:
            break
    assert tried, "no other value was found: name some in NAMED"
    assert all(tried.values()) if every else any(tried.values()), f"the same with {tried}"


@pytest.mark.parametrize(
    "change",
    [
        {"inputs": {"in_image": {"modality": {"name": "image", "translate": 0.5}}}},
        {"inputs": {"in_image": {"encoder": {"name": "resnet", "dropout": 0.5}}}},
        {"fusion": {"name": "concat", "dropout": 0.5}},
        {"outputs": {"y_classification": {"decoder": {"name": "mlp", "dropout": 0.5}}}},
        {"outputs": {"y_classification": {"task": {"name": "classification", "label_smoothing": 0.5}}}},
    ],
    ids=str,
)
def test_options_of_components_reach_the_run(change: dict[str, Any]) -> None:
    """Options that matter in training only: image augmentation, dropout, the loss."""
    base = recipe_of(MEDIA)
    assert outcome(yaml.safe_dump(merged(base, change))) not in (None, outcome(yaml.safe_dump(base)))


def test_the_outcome_is_repeatable() -> None:
    """Otherwise any key would seem live."""
    text = yaml.safe_dump(recipe_of({}))
    assert outcome(text) == outcome.__wrapped__(text)
