"""What training leaves for the record of a run: its epochs, its history, and the model it went on from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass as plain_dataclass
from dataclasses import field
from typing import Any

from pydantic.dataclasses import dataclass

from polymodal.core.record import RECORD_CONFIG, FiniteOrNone, record_json


@dataclass(frozen=True, config=RECORD_CONFIG)
class Epoch:
    """One pass over the training rows, and how the network stands after it; None for a number that is not finite.

    epoch: counted from 1; step: optimizer steps up to its end
    loss: mean loss on the training rows, by output and objective
    valid: validation scores by `output.metric`
    valid_loss: mean loss on the validation rows, by output and objective
    best: whether it validates better than every epoch before
    """

    epoch: int
    step: int
    loss: Mapping[str, FiniteOrNone]
    validation: Mapping[str, FiniteOrNone]
    validation_loss: Mapping[str, FiniteOrNone]
    best: bool


@plain_dataclass
class History:
    """What a training leaves behind.

    epochs: one entry per epoch
    notices: sentences of the monitor
    seconds: of training; steps, rows: what was trained in them
    averaged: the epochs whose weights are averaged, where several are
    """

    epochs: list[Epoch] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    seconds: float = 0.0
    steps: int = 0
    rows: int = 0
    averaged_epochs: list[int] = field(default_factory=list)

    def state_dict(self) -> dict[str, Any]:
        """JSON-ready values, from which `from_state` makes an equal history."""
        return {**vars(self), "epochs": [record_json(epoch) for epoch in self.epochs]}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> History:
        return cls(**{**state, "epochs": [Epoch(**epoch) for epoch in state["epochs"]]})


@dataclass(frozen=True, config=RECORD_CONFIG)
class SourceModelRecord:
    """The saved model that a training went on from.

    model: its directory; sha256: the sum of its manifest
    carried, new: parts of the network by recipe path: those with its weights, and the others
    """

    model: str
    sha256: str
    loaded: tuple[str, ...]
    new: tuple[str, ...]
