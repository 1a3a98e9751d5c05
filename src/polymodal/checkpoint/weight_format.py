"""The form of a model's weights: how they lie in the file, and how linear layers compute."""

from __future__ import annotations

import warnings
from typing import Literal

import torch
from pydantic import ConfigDict
from torch import Tensor, nn

from polymodal.checkpoint.int8 import Int8Linear, quantize, dequantize
from polymodal.core.options import StrictModel
from polymodal.runtime.cpu_kernels import supports_int8

#: Weights with fewer numbers than this stay as they are: they cost nothing, and norms and biases need their digits.
MIN_LARGE_SIZE = 4096
SCALE = ".int8_scale"


class WeightFormat(StrictModel):
    """How weights are kept and computed with.

    The matrices of a model (weights of two dimensions or more) are rounded when it is saved; vectors stay in fp32.
    """

    model_config = ConfigDict(frozen=True)

    weights: Literal["fp32", "bf16", "int8"] = "fp32"
    """Number format in the file. int8 has one scale for each output channel: a quarter of the size."""
    arithmetic: Literal["float", "int8"] = "float"
    """How linear layers multiply: in the format of the recipe's `precision`, or in int8 with the inputs rounded row by
    row as they come (dynamic quantisation); only with int8 weights. Where the processor does not multiply in int8, the
    rounded numbers are multiplied in fp32."""

    def packed(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """A state dict as it lies in the file."""
        if self.weights == "fp32":
            return weights
        found: dict[str, Tensor] = {}
        for name, tensor in weights.items():
            if not _large(tensor):
                found[name] = tensor
            elif self.weights == "bf16":
                found[name] = tensor.to(torch.bfloat16)
            else:
                found[name], found[name + SCALE] = quantize(tensor)
        return found

    def unpacked(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """The state dict in fp32 of what lies in the file: the rounded numbers, exactly."""
        if self.weights == "fp32":
            return weights
        found = {}
        for name, tensor in weights.items():
            if name.endswith(SCALE) and name.removesuffix(SCALE) in weights:
                continue
            scale = weights.get(name + SCALE)
            found[name] = dequantize(tensor, scale) if scale is not None else _as_float(tensor)
        return found

    def applied(self, network: nn.Module) -> None:
        """Let the large linear layers of a network with unpacked weights compute in this form, in place.

        Warns where int8 arithmetic is not that of the processor.
        """
        if self.arithmetic == "float":
            return
        if not supports_int8():
            warnings.warn(
                "this processor, or this build of torch, does not multiply eight-bit integers (on x86 it needs VNNI): "
                "int8 arithmetic multiplies the same rounded numbers in fp32, so answers are the same, but no faster",
                stacklevel=2,
            )
        for module in list(network.modules()):
            for name, child in module.named_children():
                if type(child) is nn.Linear and _large(child.weight):
                    setattr(module, name, Int8Linear(child))


def _large(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and tensor.ndim >= 2 and tensor.numel() >= MIN_LARGE_SIZE


def _as_float(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype == torch.bfloat16 else tensor
