"""Trainings in which the processes divide the network among themselves (`training.sharding`)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch.distributed.fsdp import FSDPModule

from distributed.gradient_cases import Case, small_layers, with_gaps
from distributed.steps import without_dropout
from distributed.training_cases import (
    FIXED,
    ROWS,
    STEADY,
    Stopped,
    Watch,
    apart,
    fingerprint,
    improved,
    shared_folder,
)
from laws.samples import experiment, sample_table
from polymodal.checkpoint.sharded_state import read_whole
from polymodal.core.errors import ArtifactError, RecipeError
from polymodal.core.progress import Progress
from polymodal.distributed.divided import is_divided, own_part
from polymodal.distributed.sharding import SHARDS_VARIABLE, ShardedNetwork
from polymodal.distributed.world import SINGLE, World
from polymodal.experiments.train_network import TrainingJob, train_network
from polymodal.training.trainer import Trainer

FULL = {"sharding": "full"}
SHORT = {"epochs": 3, "average_top_k": 1}


def job(folder: Path, world: World, training: dict[str, Any], seen: Any = None) -> TrainingJob:
    """Numbers, and a Transformer for a text that processes lack in whole batches."""
    columns, recipe = sample_table(["text", "number"], ["classification", "regression"], rows=ROWS)
    columns = with_gaps(columns, recipe)
    (column,) = recipe["inputs"]["in_text"]["columns"]
    columns[column] = [cell if row % 9 == 0 else None for row, cell in enumerate(columns[column])]
    recipe["inputs"]["in_text"]["encoder"] = {"name": "transformer", "num_layers": 2, "dropout": 0.0}
    for spec in recipe["outputs"].values():
        spec["decoder"] = {"name": "linear"}
    parts = {"train": columns, "validation": {name: cells[9:19] for name, cells in columns.items()}}
    keys = {"training": {**FIXED, **STEADY, **SHORT, **training}, "fusion": {"name": "concat"}}
    own = experiment(parts, folder, **recipe, **keys).with_world(world)
    return TrainingJob(own, None, None, False, Watch(seen or (lambda done: None)), "train", False)


def train(
    folder: Path, world: World, *, stop_after: int | None = None, resume: bool = False, **training: Any
) -> tuple[Trainer, float]:
    """A training, and the part of the trainable parameters that this process held after the first step."""
    held = 0.0

    def seen(done: int) -> None:
        nonlocal held
        trainable = [one for one in trainer.network.parameters() if one.requires_grad]
        assert sum(isinstance(one, FSDPModule) for one in trainer.network.modules()) in (0, 2)  # blocks of the encoder
        held = held or sum(own_part(one).numel() for one in trainable) / sum(one.numel() for one in trainable)
        states = [value for values in trainer.optimizer.state.values() for value in values.values() if value.dim()]
        assert all(map(is_divided, states)) or not any(map(is_divided, trainable))
        if done == stop_after:
            raise Stopped

    given = job(folder / f"data{world.rank}", world, training, seen)
    run = folder / "run" if world.is_first and (resume or stop_after is not None) else None
    if run is not None:
        run.mkdir(parents=True, exist_ok=True)
    trainer = given.trainer(given.experiment.recipe, given.experiment.splits["train"], run, "train")
    without_dropout(trainer.network)
    is_full = world.size > 1 and training.get("sharding") == "full"
    if is_full and world.local_rank:  # the first process of a machine has built the network
        assert memory_share(trainer.network) == 0.0
    with small_layers(), suppress(Stopped), never_whole() as checked:
        trainer.run(resume=resume)
    assert bool(checked) == is_full
    if is_full and stop_after is None:
        assert memory_share(trainer.network) == 0.0
    return trainer, held


def memory_share(network: torch.nn.Module) -> float:
    """The part of the trainable values that is in the memory of this process alone, and not mapped from a file that the
    processes of the machine share."""
    maps = Path("/proc/self/maps")
    if not maps.exists():
        return 0.0
    lines = [line.split() for line in maps.read_text().splitlines()]
    ranges = [
        [int(end, 16) for end in line[0].split("-")] for line in lines if len(line) > 5 and "polymodal-" in line[5]
    ]
    trainable = [one for one in network.parameters() if one.requires_grad and one.dim()]
    own = [one for one in trainable if not any(first <= one.data_ptr() < end for first, end in ranges)]
    return sum(one.numel() for one in own) / sum(one.numel() for one in trainable)


@contextmanager
def never_whole() -> Iterator[list[Any]]:
    """Validation gathers no more than one layer beside the root, and never the whole network. The list gets the layers
    that were gathered."""
    checked: list[Any] = []
    ordinary_whole, ordinary_evaluate = ShardedNetwork.whole, ShardedNetwork.evaluate

    def whole(self: Any) -> Any:
        raise AssertionError("the whole network is gathered")

    def evaluate(self: Any, work: Any) -> Any:
        layers = [one for one in self.network.modules() if isinstance(one, FSDPModule)]
        seen: list[Any] = []

        def check(module: Any, *_: Any) -> None:
            gathered = [one for one in layers if not all(map(is_divided, one.parameters()))]
            assert gathered == [module]
            seen.append(module)

        hooks = [layer.register_forward_pre_hook(check) for layer in layers]
        found = ordinary_evaluate(self, work)
        assert all(is_divided(one) for layer in layers for one in layer.parameters())
        checked.extend(seen)
        for hook in hooks:
            hook.remove()
        return found

    ShardedNetwork.whole, ShardedNetwork.evaluate = whole, evaluate  # type: ignore[method-assign]
    try:
        yield checked
    finally:
        ShardedNetwork.whole = ordinary_whole  # type: ignore[method-assign]
        ShardedNetwork.evaluate = ordinary_evaluate  # type: ignore[method-assign]


def resume_copy(folder: Path, name: str, world: World, **training: Any) -> Trainer:
    """Continue a copy of the stopped run `b`."""
    world.first(lambda: shutil.copytree(folder / "b" / "run", folder / name / "run") and None)
    return train(folder / name, world, resume=True, **training)[0]


def reads_no_damage(checkpoint: Path, copy: Path) -> bool:
    """Whether a checkpoint with one changed byte is refused."""
    shutil.copytree(checkpoint, copy)
    (step,) = copy.iterdir()
    part = sorted(step.glob("*.safetensors"))[0]
    content = bytearray(part.read_bytes())
    content[-1] ^= 1
    part.write_bytes(content)
    try:
        read_whole(step)
    except ArtifactError as error:
        return part.name in str(error)
    return False


def sharded(world: World) -> dict[str, float]:
    """The weights of one process; a process holds its part. A stopped run continues to the bit with the same processes,
    and to rounding with one, as replicas, and sharded after one. Its checkpoint is a folder without pickle."""
    with shared_folder(world) as folder:
        whole, held = train(folder / "a", world, **FULL)
        train(folder / "b", world, stop_after=8, **FULL)
        names = {path.name for path in (folder / "b" / "run" / "checkpoint").glob("*/*")}
        rows = ROWS * SHORT["epochs"]
        result = {
            "held": float(held > 1.3 / world.size),
            "processes": float(len(set(world.gather(fingerprint(whole)))) > 1),
            "files": float(not names or any(not name.endswith((".safetensors", "facts.json")) for name in names)),
        }
        if world.is_first:
            alone, _ = train(folder / "alone", SINGLE, **FULL)
            reduced = resume_copy(folder, "c", SINGLE)
            result["damaged"] = float(not reads_no_damage(folder / "b" / "run" / "checkpoint", folder / "damaged"))
            train(folder / "d", SINGLE, stop_after=7)
            result |= {
                "weights": apart(whole, alone),
                "epochs": float(improved(whole) != improved(alone)),
                "one process": apart(reduced, whole),
                "rows": float(any(one.history.rows != rows for one in (whole, alone, reduced))),
            }
        world.first(lambda: None)
        replicas = resume_copy(folder, "e", world, sharding="none")
        grown, _ = train(folder / "d", world, resume=True, **FULL)
        continued, _ = train(folder / "b", world, resume=True, **FULL)
        return result | {
            "bits": float(fingerprint(continued) != fingerprint(whole)),
            "replicas": apart(replicas, whole),
            "grown": apart(grown, whole),
        }


@contextmanager
def shards(count: int) -> Iterator[None]:
    """This number of processes holds a copy of the network."""
    os.environ[SHARDS_VARIABLE] = str(count)
    try:
        yield
    finally:
        del os.environ[SHARDS_VARIABLE]


def sharded_copies(world: World) -> dict[str, float]:
    """A copy of the network on each process, as on machines of one process: the other dimension of the mesh."""
    with shards(1), shared_folder(world) as folder:
        found, held = train(folder, world, **FULL)
        result = {"held": float(held != 1.0)}
        if world.is_first:
            result["weights"] = apart(found, train(folder / "alone", SINGLE)[0])
        return result


def hybrid(world: World) -> dict[str, float]:
    """Four processes hold two copies of the network, each divided in two. The weights are those of one process, and a
    stopped run continues to the bit."""
    with shards(2), shared_folder(world) as folder:
        found, held = train(folder / "a", world, **FULL)
        train(folder / "b", world, stop_after=8, **FULL)
        continued, _ = train(folder / "b", world, resume=True, **FULL)
        result = {
            "held": float(not 0.4 < held < 0.65),
            "processes": float(len(set(world.gather(fingerprint(found)))) > 1),
            "bits": float(fingerprint(continued) != fingerprint(found)),
        }
        if world.is_first:
            result["weights"] = apart(found, train(folder / "alone", SINGLE)[0])
        return result


def sharded_model(world: World) -> dict[str, float]:
    """The model of a sharded run with random draws and learned weights of losses is whole, and equal in all
    processes."""
    random = {"modality_dropout": 0.3, "loss_balancing": "uncertainty", "average_top_k": 2, **FULL}
    with shared_folder(world) as folder, small_layers():
        model = train_network(job(folder / f"data{world.rank}", world, random).experiment, progress=Progress(False))
    state = model.network.state_dict()
    hashed = [float(one.double().sum()) for one in state.values()]
    return {
        "plain": float(any(type(one) is not torch.Tensor for one in state.values())),
        "processes": float(any(one != hashed for one in world.gather(hashed))),
    }


def refused(world: World) -> dict[str, float]:
    """What compares gradients or follows weights is refused, with its key."""
    keys = {
        "training.loss_balancing": {"loss_balancing": "pcgrad"},
        "training.modality_balancing.method": {"modality_balancing": {"method": "ogm_ge"}},
        "training.precision": {"precision": "fp16"},
    }
    found = []
    with shared_folder(world) as folder:
        for path, options in keys.items():
            try:
                train(folder / path / str(world.rank), world, **FULL, **options)
            except RecipeError as error:
                found.append(error.path == path and "training.sharding to none" in str(error))
    return {"refused": float(found != [True] * len(keys))}


def sharded_cases() -> Iterator[tuple[str, Case]]:
    for case in (sharded, sharded_copies, sharded_model, refused):
        yield f"training {case.__name__}", case
