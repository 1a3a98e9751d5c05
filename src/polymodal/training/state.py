"""The state of a training run: what it leaves behind, and what a killed one goes on from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import xxhash
from torch import Tensor

from polymodal.checkpoint.training_state_file import (
    optimiser_tensors,
    read_checkpoint,
    restore_optimiser,
    write_checkpoint,
)
from polymodal.core.errors import ArtefactError
from polymodal.preparation.preparation import PreparedTable
from polymodal.recipe.recipe import Recipe
from polymodal.runtime.compute import Machine
from polymodal.training.averaging import changing_state, restore_state
from polymodal.training.optimiser import make_schedule
from polymodal.training.records import History
from polymodal.training.source_model import identity_of

if TYPE_CHECKING:
    from polymodal.training.trainer import Trainer


@dataclass(frozen=True)
class Split:
    """Some rows of a prepared table."""

    prepared: PreparedTable
    rows: np.ndarray


#: Rows of a group that stand in one batch, where a task wants some to.
TOGETHER = 4


def save_run(trainer: Trainer, checkpoint: Path) -> None:
    """Write everything that a run needs to go on from here, to the bit."""
    tensors: dict[str, Tensor] = {"random": torch.get_rng_state()}
    tensors |= {f"network.{name}": tensor for name, tensor in changing_state(trainer.network).items()}
    tensors |= {f"loss.{name}": tensor for name, tensor in trainer.loss.state_dict().items()}
    tensors |= optimiser_tensors(trainer.optimiser)
    for rank, weights in enumerate(trainer.best.weights):
        tensors |= {f"best.{rank}.{name}": tensor for name, tensor in weights.items()}
    facts = {
        "identity": trainer.identity,
        "epoch": trainer.epoch,
        "place": trainer.place,
        "waited": trainer.waited,
        "epoch_loss": trainer.epoch_loss,
        "scores": trainer.best.scores,
        "epochs": trainer.best.epochs,
        "history": trainer.history.state_dict(),
        "notices": trainer.monitor.notices,
        "silent": trainer.monitor.silent,
        "machine": vars(trainer.machine),
    }
    write_checkpoint(checkpoint, tensors, facts)


def restore_run(trainer: Trainer, checkpoint: Path) -> None:
    """Take back what `save_run` wrote.

    Raises:
        ArtefactError: it is of another recipe or other training rows.
    """
    tensors, facts = read_checkpoint(checkpoint)
    if facts["identity"] != trainer.identity:
        raise ArtefactError(
            f"{checkpoint} is of another recipe or other training rows: give those of the killed run, "
            "or start anew with overwrite"
        )
    restore_state(trainer.network, _under("network.", tensors))
    trainer.loss.load_state_dict(_under("loss.", tensors))
    restore_optimiser(trainer.optimiser, tensors)
    trainer.epoch, trainer.place, trainer.waited = facts["epoch"], facts["place"], facts["waited"]
    trainer.epoch_loss = facts["epoch_loss"]
    trainer.best.scores, trainer.best.epochs = facts["scores"], facts["epochs"]
    trainer.best.weights = [_under(f"best.{rank}.", tensors) for rank in range(len(trainer.best.scores))]
    trainer.history = History.from_state(facts["history"])
    trainer.monitor.notices, trainer.monitor.silent = facts["notices"], facts["silent"]
    trainer.machine = Machine(**facts["machine"])
    trainer.schedule = make_schedule(
        trainer.optimiser, trainer.planned, trainer.options.warmup, done=trainer.history.steps
    )
    torch.set_rng_state(tensors["random"])


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def run_identity(recipe: Recipe, train: Split) -> str:
    """What a checkpoint belongs to: a recipe, training rows, and their targets."""
    digest = xxhash.xxh3_128((recipe.to_yaml() + identity_of(recipe)).encode())
    digest.update(np.ascontiguousarray(train.rows).tobytes())
    for value, present in train.prepared.targets.values():
        digest.update(_content(value[train.rows]))
        digest.update(np.ascontiguousarray(present[train.rows]).tobytes())
    for prompts in train.prepared.prompts.values():
        digest.update(_content(prompts[train.rows]))
    return digest.hexdigest()


def _content(value: np.ndarray) -> bytes:
    """The bytes of targets, or of the texts that a text output's targets and prompts are."""
    return repr(value.tolist()).encode() if value.dtype == object else np.ascontiguousarray(value).tobytes()
