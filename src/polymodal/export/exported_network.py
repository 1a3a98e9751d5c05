"""A network as one function of tensors: prepared inputs in, probabilities and numbers out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from polymodal.core.errors import RecipeError
from polymodal.core.types import Batch, InputBatch
from polymodal.nn.encoders.logmel import LogMel
from polymodal.nn.encoders.rocket_transform import RocketTransform
from polymodal.nn.network import Network
from polymodal.tasks.base import Task
from polymodal.tasks.regression import RegressionTask

#: What stands between the name of an input and that of its tensor.
SEPARATOR = "."


@dataclass(frozen=True)
class TensorName:
    """A tensor of an input: its data, or `present`, whether a row has the input."""

    input: str
    tensor: str

    def __str__(self) -> str:
        return f"{self.input}{SEPARATOR}{self.tensor}"


class ExportedNetwork(nn.Module):
    """The forward pass of a network on prepared tensors, for graphs.

    Each row holds its own items; a row without an input has any item, and `present` False. The outputs are what
    `Task.distribution` returns: probabilities of classes and labels, numbers in the unit of the target.

    names: the order of the tensors, by which `forward` takes them
    """

    def __init__(self, network: Network, tasks: Mapping[str, Task], names: Sequence[TensorName]) -> None:
        super().__init__()
        self.network, self.tasks, self.names = network, dict(tasks), tuple(names)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The distribution `[rows, k]` of each output, float32."""
        given = {(one.input, one.tensor): tensor for one, tensor in zip(self.names, tensors, strict=True)}
        rows = tensors[0].shape[0]
        index = torch.arange(rows, device=tensors[0].device)
        inputs = {}
        for name in self.network.inputs:
            data = {one.tensor: given[name, one.tensor] for one in self.names if one.input == name}
            present = data.pop("present")
            inputs[name] = InputBatch(data, index, present)
        outputs = self.network(Batch(inputs, {}, index))
        return tuple(_distribution(self.tasks[name], outputs[name].values.float()) for name in self.network.outputs)


def _distribution(task: Task, values: Tensor) -> Tensor:
    """`Task.distribution` in torch."""
    if task.space == "categorical":
        return values.softmax(-1)
    if task.space == "binary":
        return values.sigmoid()
    assert isinstance(task, RegressionTask)
    mean, std = (torch.as_tensor(np.asarray(one), dtype=torch.float32) for one in (task.mean, task.std))
    numbers = values * std + mean
    return numbers if task.options.transform == "none" else numbers.expm1()


#: Layers that a graph does not have: they compute in parts whose number depends on the values or on the memory.
WITHOUT_GRAPH: dict[type[nn.Module], str] = {
    LogMel: "log-mel spectrograms are computed in parts; use waveform_cnn",
    RocketTransform: "the features of MiniRocket are computed in parts; use inception_time or patch_transformer",
}


def check_exportable(network: Network, tasks: Mapping[str, Task]) -> None:
    """Check that a graph can compute every input and output.

    Raises:
        RecipeError: an output is generated token by token, or has cells or boxes; or an encoder has a layer of
            `WITHOUT_GRAPH`.
    """
    for name, encoder in network.encoders().items():
        for kind, reason in WITHOUT_GRAPH.items():
            if any(isinstance(module, kind) for module in encoder.modules()):
                raise RecipeError(f"inputs.{name}.encoder", f"it cannot be exported: {reason}")
    for name, task in tasks.items():
        plain = task.space in ("categorical", "binary") or isinstance(task, RegressionTask)
        if not plain or task.grid is not None or name in network.boxes:
            raise RecipeError(
                f"outputs.{name}",
                f"the task {task.options.name} cannot be exported: its answers are not one row of values",
            )
