"""One body for three tasks: the answers of easy-VQA, and the shape and the colour in each picture.

Two data sets in one run. The questions are those of easy-VQA, with its official split; a row is a picture, a question
and an answer. The figures have one row for each picture, without a question: its shape and colour, as the answers to
its questions tell them, and a gap where none does. So no question can tell a shape or a colour.

    python -m benchmarks.many_tasks FOLDER     # FOLDER: where the models are left, or lie already
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
COLOURS = ("black", "blue", "brown", "gray", "green", "red", "teal", "yellow")
FORMS = {"shape": SHAPES, "colour": COLOURS}
VALID_SHARE = 0.05
#: Points of accuracy that an output may lose in one body, and the share of the parameters that this may have.
TOLERANCE, SHARE = 0.01, 1 / 3
#: Rows in a step of a model that reads pictures alone: an epoch has about as many steps as one of the questions.
PICTURES = 24
SETTINGS = ["evaluation.unimodal_scores=none", "training.num_threads=1", "data.split.group_column=null"]


def figures(questions: pa.Table) -> pa.Table:
    """One row for each picture of `questions`: `image`, `shape` and `colour`, None where no answer tells them."""
    known: dict[str, dict[str, str]] = {}
    for row in questions.to_pylist():
        told = known.setdefault(row["image"], {})
        question, answer = row["question"], row["answer"]
        words = set(re.findall("[a-z]+", question))
        if words & {"not", "no"} or answer == "no":
            continue
        said = words | {answer}
        for name, forms in FORMS.items():
            for weight_format in said & set(forms):
                if told.setdefault(name, weight_format) != weight_format:
                    raise ValueError(f"{row['image']} is {told[name]} and {weight_format}")
    columns = {name: pa.array([told.get(name) for told in known.values()], pa.string()) for name in FORMS}
    return pa.table({"image": pa.array(list(known)), **columns})


def parts() -> tuple[dict[str, dict[str, pa.Table]], Path]:
    """The tables `questions` and `figures` of the parts `train`, `validation` (pictures drawn from the official training
    part) and `test`, and the folder of the pictures."""
    tables, root = load_easy_vqa()
    pictures = sorted(set(tables["train"]["image"].to_pylist()))
    drawn = np.random.default_rng(0).permutation(len(pictures))[: round(VALID_SHARE * len(pictures))]
    kept = pa.array([pictures[place] for place in drawn])
    inside = pa.compute.is_in(tables["train"]["image"], value_set=kept)
    split = {
        "train": tables["train"].filter(pa.compute.invert(inside)),
        "validation": tables["train"].filter(inside),
        "test": tables["test"],
    }
    return {name: {"questions": table, "figures": figures(table)} for name, table in split.items()}, root


def recipe(outputs: list[str], *, question: bool) -> dict[str, Any]:
    """The demonstration's recipe for some of the outputs, with linear decoders: what is not shared is small."""
    import yaml

    made: dict[str, Any] = yaml.safe_load(recipe_file("easy_vqa").read_text(encoding="utf-8"))
    made["outputs"] = {name: {"task": "classification", "decoder": "linear"} for name in outputs}
    if not question:
        del made["inputs"]["question"]
        made["training"]["batch_size"] = PICTURES
    return made


def trained(folder: Path, data: dict[str, Any], root: Path, made: dict[str, Any]) -> Model:
    return fit(
        data["train"],
        recipe=made,
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
    """The one body (`shared`) and a model for each output, trained where they are not there yet."""
    tables, root = parts()
    found = {}
    for name in which or ["shared", "answer", *FORMS]:
        if name == "shared":
            data: dict[str, Any] = tables
            made = recipe(["answer", *FORMS], question=True)
        elif name == "answer":
            data = {part: own["questions"] for part, own in tables.items()}
            made = recipe(["answer"], question=True)
        else:
            data = {part: with_target(own["figures"], name) for part, own in tables.items()}
            made = recipe([name], question=False)
        found[name] = trained(folder / name, data, root, made)
    return found


def measure(folder: Path) -> Record:
    """Compare the one body with each single model on the official test part, row by row."""
    found = models(folder)
    tables, root = parts()
    test = tables["test"]
    shared = found["shared"]
    single = {name: size(found[name].network) for name in ("answer", *FORMS)}
    body, heads = (
        size(shared.network),
        {name: size(shared.network.modules_by_path()[f"outputs.{name}"]) for name in single},
    )
    alike = sum(body - sum(heads.values()) + head for head in heads.values())
    record = Record(
        name="many_tasks",
        title="Three tasks in one body: the answers of easy-VQA, and the shape and colour of each picture",
        method="Official split; one in twenty training pictures chooses the epoch. One run on two data sets: questions "
        "(image, question, answer) and figures (image, shape, colour; no question, so that none can tell them). The "
        "demonstration's recipe with linear decoders, nothing pretrained, one thread, one seed. The single models: "
        "answer by the same recipe; shape and colour from the image alone, for as many epochs, with "
        f"{PICTURES} pictures in a step, so that they take about as many steps. Difference: one body minus single "
        "model on the same rows, paired bootstrap of whole pictures.",
        unit="accuracy",
        larger_is_better=True,
    )
    record.facts["parameters of the one body"] = body
    record.facts["parameters of the three models"] = sum(single.values())
    record.facts["share of the parameters"] = body / sum(single.values())
    record.facts["share, had all three models both inputs"] = body / alike
    record.facts["share that was asked for"] = SHARE
    record.facts["loss that was allowed"] = TOLERANCE
    for name in ("answer", *FORMS):
        table = test["questions"] if name == "answer" else with_target(test["figures"], name)
        if name != "answer":
            table = table.append_column("question", pa.nulls(len(table), pa.string()))
        task, own = shared.tasks[name], found[name].tasks[name]
        value, present = target_of(shared, name, table)
        a = shared.predict_proba(table, root=root)[name]
        b = reorder_classes(found[name].predict_proba(table, root=root), own, task)
        groups = np.unique(table["image"].to_pylist(), return_inverse=True)[1]
        one = compare_output(task, a, b, (value, present), None, shared.recipe.evaluation, seed=0, groups=groups)[
            "accuracy"
        ]
        record.values[f"{name}, one body"], record.values[f"{name}, single model"] = [one["a"]], [one["b"]]
        record.facts[f"{name}: difference"] = f"{one['difference']:+.4f} ({one['low']:+.4f} to {one['high']:+.4f})"
        record.facts[f"{name}: no more than a point is lost, by the interval"] = bool(one["low"] >= -TOLERANCE)
        record.facts[f"{name}: test rows"] = len(table)
        record.facts[f"{name}: parameters of the single model"] = single[name]
    for name, model in found.items():
        record.facts[f"{name}: seconds of training"] = model.run.seconds.training
        record.facts[f"{name}: steps"] = model.run.steps
    return record


def size(part: nn.Module) -> int:
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
