"""Whole trainings by several processes, in fp32, with the random parts off unless a case says otherwise."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from distributed.gradient_cases import Case, with_gaps
from distributed.steps import relative, without_dropout
from laws.samples import FIXED, experiment, sample_table
from polymodal.core.progress import Progress, ProgressTask
from polymodal.distributed.world import SINGLE, World
from polymodal.experiments.experiment import Experiment
from polymodal.experiments.train_network import TrainingJob, train_network
from polymodal.training.trainer import Trainer

ROWS, BATCH, EPOCHS = 28, 8, 5
STEADY = {"epochs": EPOCHS, "batch_size": BATCH, "modality_dropout": 0.0, "average_top_k": 2, "save_steps": 3}


class Stopped(Exception):
    pass


class Watch(Progress):
    """Calls `seen` after each step with the number of steps."""

    def __init__(self, seen: Any) -> None:
        super().__init__(False)
        self.seen = seen

    @contextmanager
    def task(self, title: str, total: int | None) -> Iterator[ProgressTask]:
        advance = ProgressTask()
        advance.status = lambda done, planned, text: self.seen(done)  # type: ignore[method-assign]
        yield advance


def prepared(folder: Path, world: World, training: dict[str, Any]) -> Experiment:
    columns, recipe = sample_table(["text", "number", "category"], ["classification", "regression"], rows=ROWS)
    columns = with_gaps(columns, recipe)
    recipe["inputs"]["in_text"]["encoder"] = {"name": "embedding_bag", "dropout": 0.0}
    for spec in recipe["outputs"].values():
        spec["decoder"] = {"name": "linear"}
    parts = {"train": columns, "validation": {name: cells[:9] for name, cells in columns.items()}}
    keys = {"training": {**FIXED, **STEADY, **training}, "fusion": {"name": "concat"}}
    found = experiment(parts, folder, **recipe, **keys)
    return found.with_world(world)


def train(
    folder: Path, world: World, *, stop_after: int | None = None, resume: bool = False, **training: Any
) -> tuple[Trainer, list[str]]:
    """A training, and the hash of the weights after each step. If it is stopped or continues, process 0 has a folder of
    checkpoints."""
    hashes: list[str] = []

    def seen(done: int) -> None:
        hashes.append(fingerprint(trainer))
        if done == stop_after:
            raise Stopped

    own = prepared(folder / f"data{world.rank}", world, training)
    job = TrainingJob(own, None, None, resume, Watch(seen), "train", False)
    is_kept = resume or stop_after is not None
    checkpoints = folder / "run" if world.is_first and is_kept else None
    if checkpoints is not None:
        checkpoints.mkdir(parents=True, exist_ok=True)
    trainer = job.trainer(own.recipe, own.splits["train"], checkpoints, "train")
    if not training.get("modality_dropout"):
        without_dropout(trainer.network)
    with suppress(Stopped):
        trainer.run(resume=resume)
    return trainer, hashes


def fingerprint(trainer: Trainer) -> str:
    state = {**trainer.network.state_dict(), **trainer.loss.state_dict()}
    return hashlib.sha256(b"".join(one.numpy().tobytes() for one in state.values())).hexdigest()


def weights(trainer: Trainer) -> list[torch.Tensor]:
    return list(trainer.network.state_dict().values())


def apart(one: Trainer, other: Trainer) -> float:
    return relative(weights(one), weights(other))


def improved(trainer: Trainer) -> list[bool]:
    return [one.best for one in trainer.history.epochs]


@contextmanager
def shared_folder(world: World) -> Iterator[Path]:
    """A folder of process 0, whose path all processes have."""
    with tempfile.TemporaryDirectory() as own:
        yield Path(world.agree(own))
        world.first(lambda: None)


def equality(world: World) -> dict[str, float]:
    """D1: the weights of one process, after 20 steps."""
    with shared_folder(world) as folder:
        found, _ = train(folder, world)
        result = {"steps": float(found.history.steps < 20)}
        if world.is_first:
            alone, _ = train(folder / "alone", SINGLE)
            result |= {
                "weights": apart(found, alone),
                "epochs": float(improved(found) != improved(alone)),
                "rows": float(found.history.rows != alone.history.rows),
            }
        return result


def sameness(world: World) -> dict[str, float]:
    """D2: with random draws, all processes have the same weights after each step, and the same in a second run."""
    random = {"modality_dropout": 0.3, "loss_balancing": "pcgrad", "modality_balancing": {"method": "ogm_ge"}}
    with shared_folder(world) as folder:
        _, first = train(folder / "a", world, **random)
        _, second = train(folder / "b", world, **random)
    all_ranks = world.gather(first)
    return {"processes": float(any(one != first for one in all_ranks)), "runs": float(first != second)}


def resumed(world: World) -> dict[str, float]:
    """D5: a run of this many processes that was stopped in an epoch continues to the bit, with random draws; and with
    one process, without them, to rounding."""
    draws = {"modality_dropout": 0.3}
    with shared_folder(world) as folder:
        uninterrupted, _ = train(folder / "a", world, **draws)
        train(folder / "b", world, stop_after=7, **draws)
        continued, _ = train(folder / "b", world, resume=True, **draws)
        steady, _ = train(folder / "c", world)
        train(folder / "d", world, stop_after=8)
        result = {"bits": float(fingerprint(continued) != fingerprint(uninterrupted))}
        if world.is_first:
            alone, _ = train(folder / "d", SINGLE, resume=True)
            result |= {"one process": apart(alone, steady), "rows": float(alone.history.rows != steady.history.rows)}
        return result


def grown(world: World) -> dict[str, float]:
    """D5: a run of one process that was stopped in an epoch continues with more."""
    with shared_folder(world) as folder:
        steady = None
        if world.is_first:
            steady, _ = train(folder / "a", SINGLE)
            train(folder / "b", SINGLE, stop_after=7)
        continued, _ = train(folder / "b", world, resume=True)
        rows = float(continued.history.rows != EPOCHS * ROWS)
        return {"weights": 0.0 if steady is None else apart(continued, steady), "rows": rows}


def pseudo_labels(world: World) -> dict[str, float]:
    """All processes get the same labels, and train on them."""
    columns, recipe = sample_table(["number", "category"], ["classification"], rows=ROWS)
    columns["y_classification"] = [
        None if row % 3 == 2 else cell for row, cell in enumerate(columns["y_classification"])
    ]
    training = {"epochs": 2, "batch_size": BATCH, "pseudo_labels": {"rounds": 1, "min_precision": 0.5}}
    with tempfile.TemporaryDirectory() as own:
        given = experiment({"train": columns, "validation": columns}, Path(own), **recipe, training=training)
        model = train_network(given.with_world(world), progress=Progress(False))
    assert model.run.pseudo_labels is not None
    state = b"".join(one.numpy().tobytes() for one in model.network.state_dict().values())
    labels = [one.num_labels for one in model.run.pseudo_labels.rounds]
    every = world.gather([hashlib.sha256(state).hexdigest(), labels])
    return {"processes": float(any(one != every[0] for one in every)), "rounds": float(len(labels) < 2)}


def training_cases() -> Iterator[tuple[str, Case]]:
    for case in (equality, sameness, resumed, grown, pseudo_labels):
        yield f"training {case.__name__}", case
