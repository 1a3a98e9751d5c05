"""One shared model for three tasks: the answers of easy-VQA, and the shape and color in each image.

Two data sets in one run. `questions` is easy-VQA with its official split; a row is an image, a question and an answer.
`figures` has one row per image, without a question: its shape and color according to the answers to its questions, None
if unknown. So no question reveals a shape or a color.

    python -m benchmarks.many_tasks FOLDER     # FOLDER: for the trained models, or with them
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from torch import nn

from benchmarks.record import Record, run_study
from polymodal.datasets import load_easy_vqa
from polymodal.evaluation.class_alignment import reorder_classes
from polymodal.model.model import Model
from polymodal.recipe.shipped import recipe_file
from polymodal.workflows.fit import fit
from polymodal.workflows.model_comparison import compare_output

SHAPES = ("circle", "rectangle", "triangle")
COLORS = ("black", "blue", "brown", "gray", "green", "red", "teal", "yellow")
ATTRIBUTES = {"shape": SHAPES, "color": COLORS}
VALIDATION_SIZE = 0.05
#: Largest loss of accuracy of an output in the shared model, and largest fraction of the parameters.
TOLERANCE, MAX_PARAMETER_FRACTION = 0.01, 1 / 3
#: Batch size of a model that reads images only: its epochs have about as many steps as those of the questions.
IMAGE_BATCH_SIZE = 24
SETTINGS = ["evaluation.unimodal_scores=none", "training.num_threads=1", "data.split.group_column=null"]


def figures(questions: pa.Table) -> pa.Table:
    """One row for each image of `questions`: `image`, `shape` and `color`, None if no answer reveals them."""
    known: dict[str, dict[str, str]] = {}
    for row in questions.to_pylist():
        attributes = known.setdefault(row["image"], {})
        question, answer = row["question"], row["answer"]
        words = set(re.findall("[a-z]+", question))
        if words & {"not", "no"} or answer == "no":
            continue
        mentioned = words | {answer}
        for name, values in ATTRIBUTES.items():
            for value in mentioned & set(values):
                if attributes.setdefault(name, value) != value:
                    raise ValueError(f"{row['image']} is {attributes[name]} and {value}")
    columns = {
        name: pa.array([attributes.get(name) for attributes in known.values()], pa.string()) for name in ATTRIBUTES
    }
    return pa.table({"image": pa.array(list(known)), **columns})


def load_splits() -> tuple[dict[str, dict[str, pa.Table]], Path]:
    """The tables `questions` and `figures` of the splits `train`, `validation` (random images of the official training
    split) and `test`, and the folder of the images."""
    tables, root = load_easy_vqa()
    images = sorted(set(tables["train"]["image"].to_pylist()))
    drawn = np.random.default_rng(0).permutation(len(images))[: round(VALIDATION_SIZE * len(images))]
    validation_images = pa.array([images[index] for index in drawn])
    inside = pa.compute.is_in(tables["train"]["image"], value_set=validation_images)
    split = {
        "train": tables["train"].filter(pa.compute.invert(inside)),
        "validation": tables["train"].filter(inside),
        "test": tables["test"],
    }
    return {name: {"questions": table, "figures": figures(table)} for name, table in split.items()}, root


def recipe(outputs: list[str], *, question: bool) -> dict[str, Any]:
    """The recipe of the demo for some outputs, with linear decoders, so that few parameters are not shared."""
    import yaml

    values: dict[str, Any] = yaml.safe_load(recipe_file("easy_vqa").read_text(encoding="utf-8"))
    values["outputs"] = {name: {"task": "classification", "decoder": "linear"} for name in outputs}
    if not question:
        del values["inputs"]["question"]
        values["training"]["batch_size"] = IMAGE_BATCH_SIZE
    return values


def train(folder: Path, data: dict[str, Any], root: Path, values: dict[str, Any]) -> Model:
    return fit(
        data["train"],
        recipe=values,
        settings=SETTINGS,
        validation=data["validation"],
        test=data["test"],
        root=root,
        out=folder,
        resume=True,
        progress=True,
    )


def with_target(table: pa.Table, name: str) -> pa.Table:
    return table.filter(pa.compute.is_valid(table[name]))


def models(folder: Path, which: list[str] | None = None) -> dict[str, Model]:
    """The shared model (`shared`) and a model for each output; missing ones are trained."""
    tables, root = load_splits()
    trained_models = {}
    for name in which or ["shared", "answer", *ATTRIBUTES]:
        if name == "shared":
            data: dict[str, Any] = tables
            values = recipe(["answer", *ATTRIBUTES], question=True)
        elif name == "answer":
            data = {part: own["questions"] for part, own in tables.items()}
            values = recipe(["answer"], question=True)
        else:
            data = {part: with_target(own["figures"], name) for part, own in tables.items()}
            values = recipe([name], question=False)
        trained_models[name] = train(folder / name, data, root, values)
    return trained_models


def measure(folder: Path) -> Record:
    """Compare the shared model with each single-task model on the official test split, row by row."""
    trained_models = models(folder)
    tables, root = load_splits()
    test = tables["test"]
    shared = trained_models["shared"]
    single = {name: num_parameters(trained_models[name].network) for name in ("answer", *ATTRIBUTES)}
    shared_size, heads = (
        num_parameters(shared.network),
        {name: num_parameters(shared.network.modules_by_path()[f"outputs.{name}"]) for name in single},
    )
    full_size = sum(shared_size - sum(heads.values()) + head for head in heads.values())
    record = Record(
        name="many_tasks",
        title="Three tasks in one model: the answers of easy-VQA, and the shape and color of each image",
        method="Official split; one in twenty training images is used for validation. One run on two data sets: "
        "questions (image, question, answer) and figures (image, shape, color; no question). The recipe of the demo "
        "with linear decoders, nothing pretrained, one thread, one seed. The single models: answer by the same "
        f"recipe; shape and color from the image only, for as many epochs, with batches of {IMAGE_BATCH_SIZE} images, "
        "so that they take about as many steps. Difference: shared model minus single model on the same rows, paired "
        "bootstrap of whole images.",
        unit="accuracy",
        larger_is_better=True,
    )
    record.facts["parameters of the shared model"] = shared_size
    record.facts["parameters of the three models"] = sum(single.values())
    record.facts["fraction of the parameters"] = shared_size / sum(single.values())
    record.facts["fraction, if all three models had both inputs"] = shared_size / full_size
    record.facts["target for the fraction"] = MAX_PARAMETER_FRACTION
    record.facts["allowed loss of accuracy"] = TOLERANCE
    for name in ("answer", *ATTRIBUTES):
        table = test["questions"] if name == "answer" else with_target(test["figures"], name)
        if name != "answer":
            table = table.append_column("question", pa.nulls(len(table), pa.string()))
        task, own = shared.tasks[name], trained_models[name].tasks[name]
        value, present = target_of(shared, name, table)
        a = shared.predict_proba(table, root=root)[name]
        b = reorder_classes(trained_models[name].predict_proba(table, root=root), own, task)
        groups = np.unique(table["image"].to_pylist(), return_inverse=True)[1]
        one = compare_output(task, a, b, (value, present), None, shared.recipe.evaluation, seed=0, groups=groups)[
            "accuracy"
        ]
        record.values[f"{name}, shared model"], record.values[f"{name}, single model"] = [one["a"]], [one["b"]]
        record.facts[f"{name}: difference"] = f"{one['difference']:+.4f} ({one['low']:+.4f} to {one['high']:+.4f})"
        record.facts[f"{name}: at most one point is lost, by the interval"] = bool(one["low"] >= -TOLERANCE)
        record.facts[f"{name}: test rows"] = len(table)
        record.facts[f"{name}: parameters of the single model"] = single[name]
    for name, model in trained_models.items():
        record.facts[f"{name}: seconds of training"] = model.run.seconds.training
        record.facts[f"{name}: steps"] = model.run.steps
    return record


def num_parameters(part: nn.Module) -> int:
    return sum(one.numel() for one in part.parameters())


def target_of(model: Model, name: str, table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """The prepared targets of one output."""
    classes = {label: number for number, label in enumerate(model.tasks[name].classes)}
    return np.array([classes[label] for label in table[name].to_pylist()]), np.ones(len(table), dtype=bool)


if __name__ == "__main__":
    if len(sys.argv) > 2:  # train some of the models only
        models(Path(sys.argv[1]), sys.argv[2:])
    else:
        run_study(measure, Path(sys.argv[1]))
