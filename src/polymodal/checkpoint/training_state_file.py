"""Training checkpoints: one safetensors file from which an interrupted run resumes exactly."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.optim import Optimizer

from polymodal.checkpoint.tensor_files import write_tensors
from polymodal.core.checksum import content_checksum
from polymodal.core.errors import ArtifactError


@dataclass(frozen=True)
class TrainingState:
    """The state of a run: tensors by name, and all other values, JSON-ready."""

    tensors: dict[str, Tensor]
    metadata: dict[str, Any]

    def with_prefix(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names begin with `prefix`, with the prefix removed from the names."""
        return {name.removeprefix(prefix): one for name, one in self.tensors.items() if name.startswith(prefix)}


def add_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with `prefix` added to their names."""
    return {prefix + name: tensor for name, tensor in tensors.items()}


def write_checkpoint(path: Path, state: TrainingState) -> None:
    """Write a state as one file, atomically: a reader sees the old file or the new one.

    Raises:
        OutputError: the file cannot be written.
    """
    text = json.dumps(state.metadata)
    write_tensors(path, state.tensors, {"metadata": text, "checksum": _checksum(state.tensors, text)})


def read_checkpoint(path: Path) -> TrainingState:
    """Read a state written by `write_checkpoint`, and compare its content with its checksum.

    Raises:
        ArtifactError: the file is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        text = metadata["metadata"]
        if _checksum(tensors, text) != metadata["checksum"]:
            raise ValueError("its content does not have its checksum")
        return TrainingState(tensors, json.loads(text))
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise ArtifactError(f"{path} is damaged ({error}); delete it to train from the start") from None


def _checksum(tensors: Mapping[str, Tensor], text: str) -> str:
    """The checksum of the names, dtypes, shapes and values of tensors in any order, and of a text."""
    parts = [text.encode()]
    for name, tensor in sorted(tensors.items()):
        values = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        parts += [f"{name} {tensor.dtype} {list(tensor.shape)}".encode(), content_checksum([values.data])]
    return content_checksum(b"%d " % len(part) + part for part in parts).hex()


def optimizer_tensors(optimizer: Optimizer, names: Mapping[Tensor, str]) -> dict[str, Tensor]:
    """The state of the optimizer as flat tensors: `<parameter>.<name>`.

    names: of all parameters
    """
    return {
        f"{names[parameter]}.{name}": value if isinstance(value, Tensor) else torch.tensor(value)
        for parameter, values in optimizer.state.items()
        for name, value in values.items()
    }


def restore_optimizer(optimizer: Optimizer, tensors: dict[str, Tensor], names: Mapping[Tensor, str]) -> None:
    """Restore the state of `optimizer_tensors`; learning rates come from the schedule.

    Files hold contiguous tensors, while the fused step needs the memory layout of the parameter: each moment gets the
    strides of its parameter (convolutions are channels-last).
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    index = {names[parameter]: place for place, parameter in enumerate(parameters)}
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        parameter, _, name = key.rpartition(".")
        state.setdefault(index[parameter], {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    for own, values in optimizer.state.items():
        for name, value in values.items():
            if value.shape == own.shape:
                values[name] = torch.empty_like(own).copy_(value)
