"""Single steps of a trainer, and a new measurement of its compute configuration."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from polymodal.core.progress import ProgressTask
from polymodal.runtime.autotune import autotune
from polymodal.runtime.compute import ComputeConfig
from polymodal.training.log import Log
from polymodal.training.trainer import Trainer


def own_choice(trainer: Trainer) -> ComputeConfig:
    """The configuration that the trainer selects by its own trial, without results of earlier runs."""
    return autotune(trainer.options, trainer.network, trainer._trial_step, None)


def autotune_again(trainer: Trainer) -> None:
    """Run the trainer with `own_choice`."""
    selected = own_choice(trainer)
    chosen = {"precision": selected.precision, "num_threads": selected.threads}
    trainer.options = trainer.options.model_copy(update=chosen)


@contextmanager
def stepping(trainer: Trainer) -> Iterator[None]:
    """Within the block `trainer._step` can be called, with the configuration of the recipe; nothing is printed or
    written."""
    trainer.compute = own_choice(trainer)
    trainer.log, trainer.bar = Log(None, tensorboard=False), ProgressTask()
    trainer.network.train()
    with trainer.compute.active():
        yield
