"""Steps of a trainer outside its run, and the choice of how to compute, measured anew."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from polymodal.core.progress import ProgressTask
from polymodal.runtime.compute import ComputeConfig, autotune
from polymodal.training.log import Log
from polymodal.training.trainer import Trainer


def own_choice(trainer: Trainer) -> ComputeConfig:
    """How the trainer would compute, by its own trial; what earlier runs measured is not asked."""
    return autotune(trainer.options, trainer.network, trainer._trial_step, None)


def decide_anew(trainer: Trainer) -> None:
    """Let the run of the trainer compute by `own_choice`."""
    found = own_choice(trainer)
    chosen = {"precision": found.precision, "num_threads": found.threads}
    trainer.options = trainer.options.model_copy(update=chosen)


@contextmanager
def stepping(trainer: Trainer) -> Iterator[None]:
    """Inside the block `trainer._step` can be called, and computes as the recipe says; nothing is shown or written."""
    trainer.compute = own_choice(trainer)
    trainer.log, trainer.bar = Log(None, tensorboard=False), ProgressTask()
    trainer.network.train()
    with trainer.compute.active():
        yield
