"""Checkpoints: one safetensors file with everything that a killed run needs to go on as if it had not stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.optim import Optimizer

from polymodal.core.errors import ArtifactError


@dataclass(frozen=True)
class TrainingState:
    """What a run goes on from: tensors by name, and everything else, JSON-ready."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]

    def under(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names begin with `prefix`, without it."""
        return {name.removeprefix(prefix): one for name, one in self.tensors.items() if name.startswith(prefix)}


def add_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with `prefix` before their names."""
    return {prefix + name: tensor for name, tensor in tensors.items()}


def write_checkpoint(path: Path, state: TrainingState) -> None:
    """Write a state as one file; a reader sees the old file or the new one, never a part."""
    part = path.with_suffix(".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    owned = {name: tensor.detach().clone().contiguous() for name, tensor in state.tensors.items()}
    save_file(owned, part, metadata={"facts": json.dumps(state.facts)})
    part.replace(path)


def read_checkpoint(path: Path) -> TrainingState:
    """What `write_checkpoint` wrote.

    Raises:
        ArtifactError: the file is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return TrainingState(tensors, json.loads(metadata["facts"]))
    except (SafetensorError, KeyError) as error:
        raise ArtifactError(f"{path} is damaged ({error}); delete it to train from the start") from None


def optimizer_tensors(optimiser: Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as flat tensors: `<parameter>.<name>`."""
    state = optimiser.state_dict()["state"]
    return {
        f"{index}.{name}": value if isinstance(value, Tensor) else torch.tensor(value)
        for index, values in state.items()
        for name, value in values.items()
    }


def restore_optimizer(optimiser: Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave; rates come from the schedule.

    Files hold tensors in plain order, while the fused step reads memory as it lies: each moment is laid out as its
    parameter is (convolutions are channels-last).
    """
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    for parameter, values in optimiser.state.items():
        for name, value in values.items():
            if value.shape == parameter.shape:
                values[name] = torch.empty_like(parameter).copy_(value)
