"""Training records of a run: epochs, history, and the source model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass as plain_dataclass
from dataclasses import field
from typing import Any

from pydantic.dataclasses import dataclass

from polymodal.core.record import RECORD_CONFIG, FiniteOrNone, record_json


@dataclass(frozen=True, config=RECORD_CONFIG)
class Epoch:
    """Scores and losses of one epoch. A number that is not finite is None.

    epoch: counted from 1; step: optimizer steps up to the end of the epoch
    loss: mean loss on the training rows, by output and objective
    validation: validation scores by `output.metric`
    validation_loss: mean loss on the validation rows, by output and objective
    best: whether the validation score is higher than in every earlier epoch that could be kept
    """

    epoch: int
    step: int
    loss: Mapping[str, FiniteOrNone]
    validation: Mapping[str, FiniteOrNone]
    validation_loss: Mapping[str, FiniteOrNone]
    best: bool


@plain_dataclass
class History:
    """The history of a training run.

    epochs: one entry per epoch
    notices: warnings of the monitor
    seconds: training time; steps, rows: optimizer steps and rows processed in that time
    averaged_epochs: the epochs whose weights are averaged; empty if one epoch was selected
    annealed_from: the epoch to which an early stop went back, and whose weights were annealed; 0 without one
    """

    epochs: list[Epoch] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    seconds: float = 0.0
    steps: int = 0
    rows: int = 0
    averaged_epochs: list[int] = field(default_factory=list)
    annealed_from: int = 0

    def state_dict(self) -> dict[str, Any]:
        """JSON-ready values, the input of `from_state`."""
        return {**vars(self), "epochs": [record_json(epoch) for epoch in self.epochs]}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> History:
        """The history that `state_dict` returned."""
        return cls(**{**state, "epochs": [Epoch(**epoch) for epoch in state["epochs"]]})


@dataclass(frozen=True, config=RECORD_CONFIG)
class SourceModelRecord:
    """The saved model that a training run started from.

    model: its directory; sha256: the checksum of its manifest
    loaded, new: parts of the network by recipe path, with loaded and with new weights
    """

    model: str
    sha256: str
    loaded: tuple[str, ...]
    new: tuple[str, ...]
