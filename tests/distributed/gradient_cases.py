"""The cases of law D1 and D3: every task, objective, fusion and decoder, and encoders with batch statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from distributed.steps import Step, difference, fingerprint, relative
from laws.objectives import inputs_of
from laws.samples import TEXT_DECODERS, VALUE_DECODERS, light, prepare, sample_table
from polymodal.core.registry import components
from polymodal.distributed.world import SINGLE, World
from polymodal.preparation.preparation import Preparation, PreparedTable
from polymodal.training import sharded_training

Case = Callable[[World], "dict[str, float] | Comparison"]
ROWS = 12
TASKS = ["classification", "multilabel_classification", "regression", "metric_learning", "text_generation"]
#: Objectives without random draws, with the options under which they have none.
STEADY: dict[str, dict[str, Any]] = {
    "barlow_twins": {},
    "cca": {},
    "contrastive": {"memory_bank_size": 32, "matryoshka_dims": [4]},
    "cross_modal_distillation": {"match": "both"},
    "dino": {"inputs": ["in_number"], "augmentation_strength": 1e-9, "koleo_weight": 0.1},
    "linear_cca": {},
    "masked_modeling": {"mask_ratio": 1.0},
    "masked_multimodal_modeling": {"mask_ratio": 1.0},
    "matching": {"temperature": 1e-4, "inputs": ["in_number", "in_text"]},
    "next_token": {"dropout": 0.0},
    "siglip": {"memory_bank_size": 32},
}
#: Encoders that normalize over the batch, by modality.
NORMALIZED = {"image": ["vgg16", "resnet"], "video": ["cnn3d"], "time_series": ["inception_time", "minirocket"]}
#: Options without which an encoder has random draws.
STILL: dict[str, dict[str, Any]] = {
    name: {"num_time_masks": 0, "num_freq_masks": 0} for name in ("conformer", "audio_transformer")
}
#: Encoders of layers that a sharded network gathers one by one, by modality.
LAYERED = {
    "audio": ["conformer", "audio_transformer"],
    "category": ["entity_embedding"],
    "image": ["vit"],
    "text": ["lstm", "transformer"],
    "time_series": ["patch_transformer"],
    "video": ["frame_encoder", "video_transformer"],
}


def with_gaps(columns: dict[str, list[Any]], recipe: dict[str, Any]) -> dict[str, list[Any]]:
    """The columns with a missing cell in every input and every target."""
    changed = dict(columns)
    for place, spec in enumerate([*recipe["inputs"].values()]):
        for column in spec["columns"]:
            changed[column] = [None if row == place else cell for row, cell in enumerate(changed[column])]
    for place, name in enumerate(recipe.get("outputs", {})):
        changed[name] = [None if row == place + 5 else cell for row, cell in enumerate(changed[name])]
    return changed


@dataclass(frozen=True)
class Comparison:
    """A step of all processes, which one of them compares with its own step on the whole batch.

    result: what all processes know already
    found, divided: the step as replicas, and with a network that the processes divide (None: not computed)
    """

    result: dict[str, float]
    step: Step
    steps: int
    found: dict[str, Any]
    divided: dict[str, Any] | None

    def finish(self) -> dict[str, float]:
        """The differences. It needs no other process."""
        wanted = self.step.run(SINGLE, self.step.rows, steps=self.steps)
        sharded = {} if self.divided is None else difference(self.divided, wanted)
        return self.result | difference(self.found, wanted) | {f"sharded {name}": one for name, one in sharded.items()}


def compared(step: Step, world: World, steps: int = 1, *, sharded: bool = True) -> Comparison:
    """The step of all processes, for the comparison with that of one process.

    sharded: whether the step is also computed with a network that the processes divide
    """
    found = step.run(world, steps=steps)
    result = {"processes": float(len(set(world.gather(fingerprint(found)))) > 1)}
    with small_layers():
        divided = step.run(world, steps=steps, sharded=True) if sharded else None
    return Comparison(result, step, steps, found, divided)


@contextmanager
def small_layers() -> Iterator[None]:
    """In a sharded network, layers of any size are gathered for themselves."""
    before = sharded_training.MIN_LAYER_VALUES
    sharded_training.MIN_LAYER_VALUES = 1
    try:
        yield
    finally:
        sharded_training.MIN_LAYER_VALUES = before


def prepared_outputs(tasks: list[str] | None = None, **keys: Any) -> tuple[Preparation, PreparedTable]:
    """Rows with three inputs, an output of each task, gaps, and sample weights."""
    columns, recipe = sample_table(["text", "number", "category"], tasks or TASKS, rows=ROWS)
    columns = with_gaps(columns, recipe) | {"weight": np.linspace(0.5, 2, ROWS).tolist()}
    outputs = {name: {**spec, **keys.pop(name, {})} for name, spec in recipe["outputs"].items()}
    return prepare(columns, **(recipe | {"outputs": outputs}), data={"weight_column": "weight"}, **keys)


def of_outputs(rows: list[int] | None = None, **keys: Any) -> Case:
    def case(world: World) -> Comparison:
        balance = keys.get("balance", "fixed")
        given = {name: value for name, value in keys.items() if name not in ("balance", "sharded")}
        chosen = list(range(ROWS)) if rows is None else rows
        sharded = "sharded" in keys or balance == "uncertainty"
        return compared(Step(*prepared_outputs(**given), chosen, balance=balance), world, sharded=sharded)

    return case


def of_uneven_outputs(kind: str) -> Case:
    """A process without rows, without rows that have an input, or without rows that have a target."""

    def case(world: World) -> Comparison:
        columns, recipe = sample_table(["text", "number", "category"], TASKS, rows=ROWS)
        lacking = [4, 5, 6] if kind != "rows" else []
        emptied = recipe["inputs"]["in_text"]["columns"] if kind == "input" else list(recipe["outputs"])
        for column in emptied if lacking else []:
            columns[column] = [None if row in lacking else cell for row, cell in enumerate(columns[column])]
        others = [row for row in range(ROWS) if row not in lacking]
        parts = [others, lacking] if world.size == 2 else [others[:5], lacking, others[5:]]
        step = Step(*prepare(columns, **recipe, fusion="mixture"), parts=parts)
        return compared(step, world)

    return case


def of_decoder(name: str) -> Case:
    def case(world: World) -> Comparison:
        task = "text_generation" if name in TEXT_DECODERS else "metric_learning" if name == "embed" else "regression"
        with world.in_turn():  # the first process makes the checkpoint
            decoder = {f"y_{task}": {"decoder": light({"name": name})}}
        return of_outputs(tasks=[task], sharded=True, **decoder)(world)

    return case


def of_events(world: World) -> Comparison:
    columns, recipe = sample_table(["time_series"], ["event_detection"], rows=ROWS)
    columns = with_gaps(columns, recipe)
    return compared(Step(*prepare(columns, **recipe), list(range(ROWS))), world)


def of_boxes(world: World) -> Comparison:
    columns, recipe = sample_table(["image", "text"], ["object_detection"], rows=ROWS)
    recipe["inputs"]["in_image"]["encoder"] = {"name": "vit", "num_layers": 1, **STILL.get("vit", {})}
    columns = with_gaps(columns, recipe)
    return compared(Step(*prepare(columns, **recipe), list(range(ROWS))), world)


def of_encoder(modality: str, name: str) -> Case:
    """An encoder with batch normalization or layers, of which one process has no item."""

    def case(world: World) -> Comparison:
        rows = 8
        columns, recipe = sample_table([modality, "number"], ["regression"], rows=rows)
        recipe["inputs"][f"in_{modality}"]["encoder"] = light({"name": name, **STILL.get(name, {})})
        for column in recipe["inputs"][f"in_{modality}"]["columns"]:
            columns[column] = [None if row in (3, 4) else cell for row, cell in enumerate(columns[column])]
        parts = [[0, 1, 2, 5, 6, 7], [3, 4]] if world.size == 2 else [[0, 1, 2], [3, 4], [5, 6, 7]]
        return compared(Step(*prepare(columns, **recipe), parts=parts), world, steps=2)

    return case


def prepared_objective(options: dict[str, Any], rows: int = ROWS) -> tuple[Preparation, PreparedTable]:
    columns, inputs = inputs_of(rows)
    del inputs["in_image"], columns["image"]
    for place, spec in enumerate(inputs.values()):
        for column in spec["columns"]:
            columns[column][place] = None
    columns["text"][7] = columns["text"][6]  # rows that share an item, in different processes
    return prepare(columns, inputs=inputs, objectives=[options])


def of_objective(name: str, options: dict[str, Any]) -> Case:
    """Two steps, so that memory banks and statistics of the first count. The uneven case divides the network."""

    def case(world: World) -> Comparison:
        step = Step(*prepared_objective({"name": name, **options}), list(range(ROWS)))
        return compared(step, world, steps=2, sharded=False)

    return case


def of_uneven_objective(name: str, options: dict[str, Any]) -> Case:
    """A process without a text, and with three processes one without rows."""

    def case(world: World) -> Comparison:
        columns, inputs = inputs_of(ROWS)
        del inputs["in_image"], columns["image"]
        for column in ("text", "more"):
            columns[column] = [None if row in (4, 5) else cell for row, cell in enumerate(columns[column])]
        others = [row for row in range(ROWS) if row not in (4, 5)]
        parts = [others, [4, 5]] if world.size == 2 else [others, [4, 5], []]
        given = prepare(columns, inputs=inputs, objectives=[{"name": name, **options}])
        return compared(Step(*given, parts=parts), world, sharded=name != "dino")

    return case


def of_uneven_masking(modality: str) -> Case:
    """Masked parts of an input that one process does not have."""

    def case(world: World) -> Comparison:
        columns, recipe = sample_table([modality, "number"], [], rows=6)
        for column in recipe["inputs"][f"in_{modality}"]["columns"]:
            columns[column] = [None if row in (2, 3) else cell for row, cell in enumerate(columns[column])]
        parts = [[0, 1, 4, 5], [2, 3]] if world.size == 2 else [[0, 1], [2, 3], [4, 5]]
        objective = {"name": "masked_modeling", "mask_ratio": 1.0, "inputs": [f"in_{modality}"]}
        given = prepare(columns, inputs=recipe["inputs"], objectives=[objective])
        return compared(Step(*given, parts=parts), world)

    return case


def of_random_objective(name: str, options: dict[str, Any]) -> Case:
    """An objective with random draws equals the mean over the processes of what each computes alone, weighted by its
    number of values."""

    def case(world: World) -> dict[str, float]:
        step = Step(*prepared_objective({"name": name, "inputs": ["in_number"], **options}), list(range(ROWS)))
        torch.manual_seed(world.rank)
        found = step.run(world)
        alone = []
        for rank in range(world.size):
            torch.manual_seed(rank)
            own = Step(step.preparation, step.prepared, step.part(World(rank, world.size)).tolist())
            alone.append(own.run(SINGLE))
        (key,) = alone[0]["baselines"]
        counts = [one["baselines"][key][1] for one in alone]
        names = [name for name, one in alone[0]["gradients"].items() if one is not None]
        wanted = [
            sum((count * one["gradients"][own] for count, one in zip(counts, alone, strict=True)), torch.zeros(()))
            / sum(counts)
            for own in names
        ]
        loss = sum(count * one["total"] for count, one in zip(counts, alone, strict=True)) / sum(counts)
        return {
            "gradients": relative([found["gradients"][own] for own in names], wanted),
            "losses": abs(found["total"] - loss) / abs(loss),
        }

    return case


def gradient_cases() -> Iterator[tuple[str, Case]]:
    """Every case by name."""
    for name in components("fusion"):
        yield f"fusion {name}", of_outputs(fusion=name, **({"sharded": True} if name in ("late", "mixture") else {}))
    for balance in ("uncertainty", "gradnorm"):
        yield f"balance {balance}", of_outputs(balance=balance, fusion="mixture")
    yield "balance pcgrad", of_outputs(balance="pcgrad", tasks=["classification", "regression"])
    for name in (*VALUE_DECODERS, "embed", *TEXT_DECODERS):
        yield f"decoder {name}", of_decoder(name)
    yield "task event_detection", of_events
    yield "decoder fcos", of_boxes
    yield "last batch", of_outputs(rows=[3])
    for kind in ("input", "target", "rows"):
        yield f"without {kind}", of_uneven_outputs(kind)
    for name, options in STEADY.items():
        yield f"objective {name}", of_objective(name, options)
        yield f"uneven objective {name}", of_uneven_objective(name, options)
    for modality in ("image", "video", "audio", "time_series", "datetime"):
        yield f"uneven masks of {modality}", of_uneven_masking(modality)
    yield "random objective masked_modeling", of_random_objective("masked_modeling", {})
    yield "random objective denoising", of_random_objective("denoising", {})
    for modality, names in [*NORMALIZED.items(), *LAYERED.items()]:
        for name in names:
            yield f"encoder {name} of {modality}", of_encoder(modality, name)
