"""The schedule of a run: its epochs, the learning rate of each step, and the end of training."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from polymodal.training.records import Epoch

#: An epoch is annealed if the learning rate at its end is at most this fraction of the peak: the last quarter.
ANNEALED = 0.15
#: Epochs of the annealing after an early stop, as a fraction of the planned epochs.
ANNEALING_RATIO = 0.1


@dataclass(frozen=True)
class Annealing:
    """The end of a run that was stopped early: the learning rate decays linearly to 0.

    last_epoch: the epoch at whose end the learning rate is 0
    start: optimizer steps of the run before it
    steps: its optimizer steps
    factor: the factor of the learning rate at its start
    """

    last_epoch: int
    start: int
    steps: int
    factor: float


class Schedule:
    """Linear warmup over a fraction of the steps, then cosine decay to 0 (Loshchilov & Hutter, SGDR, 2017).

    The weights of an epoch with a high learning rate are noisy, and on few validation rows the best of many such epochs
    is a matter of luck. Therefore only annealed epochs are kept when the schedule ends. A run that is stopped early has
    none: it goes back to its best epoch, from which the rate decays linearly to 0 (`anneal`).

    epochs, epoch_steps: number of epochs, and optimizer steps of each
    warmup: fraction of the steps with a linear warmup
    patience: the run is stopped after this many epochs without a better validation score
    """

    def __init__(self, optimizer: AdamW, epochs: int, epoch_steps: int, warmup: float, patience: int) -> None:
        self.optimizer, self.epoch_steps, self.warmup, self.patience = optimizer, epoch_steps, warmup, patience
        self.num_planned, self.is_stopped = epochs, False
        self.top_score: float | None = None
        self.epochs_without_improvement = 0
        self.annealing: Annealing | None = None
        self.rates = LambdaLR(optimizer, self.factor)

    @property
    def warmup_steps(self) -> int:
        """The number of warmup steps: at least 1."""
        return max(1, round(self.num_planned * self.epoch_steps * self.warmup))

    @property
    def total_steps(self) -> int:
        """The number of optimizer steps of the run."""
        if self.annealing is not None:
            return self.annealing.start + self.annealing.steps
        return self.num_planned * self.epoch_steps

    def factor(self, step: int) -> float:
        """The factor of the peak learning rate after `step` completed steps."""
        one, warmup = self.annealing, self.warmup_steps
        if one is not None and step >= one.start:
            return one.factor * max(0.0, 1 - (step - one.start) / one.steps)
        if step < warmup:
            return (step + 1) / warmup
        planned = self.num_planned * self.epoch_steps
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, planned - warmup))))

    def is_annealed(self, step: int) -> bool:
        """Whether the learning rate has decayed after `step` completed steps."""
        return step >= self.warmup_steps and self.factor(step) <= ANNEALED

    def record(self, score: float, *, is_solved: bool) -> None:
        """Record the validation score of an epoch, and stop the run if validation is solved or patience is exhausted.

        After an early stop, the annealing takes its course.
        """
        improved = self.top_score is None or score > self.top_score
        self.top_score = score if improved else self.top_score
        self.epochs_without_improvement = 0 if improved else self.epochs_without_improvement + 1
        is_exhausted = self.annealing is None and self.epochs_without_improvement >= self.patience
        self.is_stopped = is_solved or is_exhausted

    def is_over(self, epoch: int) -> bool:
        """Whether training ends after `epoch` completed epochs."""
        last = self.num_planned if self.annealing is None else self.annealing.last_epoch
        return self.is_stopped or epoch >= last

    def plan(self, epochs: int, completed_steps: int) -> None:
        """Change the number of epochs, at the end of which the learning rate is 0."""
        self.num_planned = epochs
        self._continue(completed_steps)

    def anneal(self, source: Epoch, last: Epoch, max_epochs: float) -> bool:
        """Continue a stopped run: decay from the learning rate of an epoch to 0. False if there is no time.

        source: the epoch whose weights the decay starts from
        last: the last epoch before it
        max_epochs: largest number of epochs that the decay may take
        """
        epochs = int(min(max(1, round(ANNEALING_RATIO * self.num_planned)), max_epochs))
        if epochs < 1:
            return False
        factor = self.factor(source.step)
        self.annealing = Annealing(last.epoch + epochs, last.step, epochs * self.epoch_steps, factor)
        self.is_stopped = False
        self._continue(last.step)
        return True

    def state_dict(self) -> dict[str, Any]:
        """JSON-ready values, the input of `load_state_dict`."""
        return {
            "num_planned": self.num_planned,
            "is_stopped": self.is_stopped,
            "top_score": self.top_score,
            "epochs_without_improvement": self.epochs_without_improvement,
            "annealing": None if self.annealing is None else asdict(self.annealing),
        }

    def load_state_dict(self, state: dict[str, Any], completed_steps: int) -> None:
        """Restore the result of `state_dict`."""
        self.num_planned, self.is_stopped = state["num_planned"], state["is_stopped"]
        self.top_score, self.epochs_without_improvement = state["top_score"], state["epochs_without_improvement"]
        self.annealing = None if state["annealing"] is None else Annealing(**state["annealing"])
        self._continue(completed_steps)

    def use(self, optimizer: AdamW) -> None:
        """Schedule another optimizer of the same parameters, before the first step."""
        self.optimizer = optimizer
        self.rates = LambdaLR(optimizer, self.factor)

    def _continue(self, completed_steps: int) -> None:
        self.rates = LambdaLR(self.optimizer, self.factor, last_epoch=completed_steps - 1)
