"""The number format of saved weights and of the products of linear layers."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import ConfigDict
from torch import Tensor, nn

from polymodal.checkpoint.int8 import Int8Linear, dequantize, quantize
from polymodal.core.caller import warn_caller
from polymodal.core.errors import PolymodalWarning
from polymodal.core.options import StrictModel
from polymodal.runtime.cpu_kernels import supports_int8

#: Smaller weights stay in fp32: they take little space, and norms and biases need the precision.
MIN_LARGE_SIZE = 4096
SCALE = ".int8_scale"


class WeightFormat(StrictModel):
    """Number formats of the saved weights and of the products.

    The matrices of a model (weights with two or more dimensions) are rounded when it is saved; vectors stay in fp32.
    """

    model_config = ConfigDict(frozen=True)

    weights: Literal["fp32", "bf16", "int8"] = "fp32"
    """Number format in the file. int8 has one scale for each output channel and takes a quarter of the size of fp32."""
    arithmetic: Literal["float", "int8"] = "float"
    """Products of linear layers: in the `precision` of the recipe, or in int8 with inputs quantized row by row (dynamic
    quantization), which needs int8 weights. If the processor does not support int8 products, the rounded numbers are
    multiplied in fp32."""

    def to_file(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """The state dict for the file. Names with the same tensor object keep one object."""
        if self.weights == "fp32":
            return weights
        found: dict[str, Tensor] = {}
        rounded: dict[int, tuple[Tensor, ...]] = {}
        for name, tensor in weights.items():
            if id(tensor) not in rounded:
                rounded[id(tensor)] = self._rounded(tensor)
            found |= zip((name, name + SCALE), rounded[id(tensor)], strict=False)
        return found

    def _rounded(self, tensor: Tensor) -> tuple[Tensor, ...]:
        """A tensor for the file; in int8, a matrix and its scale."""
        if not _large(tensor):
            return (tensor,)
        return (tensor.to(torch.bfloat16),) if self.weights == "bf16" else quantize(tensor)

    def from_file(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """The fp32 state dict from the file: exactly the rounded numbers. Names with one object keep one object."""
        if self.weights == "fp32":
            return weights
        found = {}
        exact: dict[tuple[int, int], Tensor] = {}
        for name, tensor in weights.items():
            if name.endswith(SCALE) and name.removesuffix(SCALE) in weights:
                continue
            scale = weights.get(name + SCALE)
            key = (id(tensor), id(scale))
            if key not in exact:
                exact[key] = dequantize(tensor, scale) if scale is not None else _as_float(tensor)
            found[name] = exact[key]
        return found

    def changes(self, weights: dict[str, Tensor]) -> bool:
        """Whether any of these weights is rounded; small models have no matrix that is large enough."""
        return self.weights != "fp32" and any(map(_large, weights.values()))

    def apply_to(self, network: nn.Module) -> None:
        """Make the large linear layers of a network with fp32 weights compute in this format, in place.

        Warns if the processor does not support int8 products.
        """
        if self.arithmetic == "float":
            return
        if not supports_int8():
            warn_caller(
                "this processor or this build of torch does not support int8 products (x86 needs VNNI): the same "
                "rounded numbers are multiplied in fp32, so predictions are the same but not faster",
                PolymodalWarning,
            )
        made: dict[tuple[int, int], Int8Linear] = {}
        for module in list(network.modules()):
            for name, child in module.named_children():
                if type(child) is nn.Linear and _large(child.weight):
                    key = (id(child.weight), id(child.bias))  # layers with shared weights share the integers
                    if key not in made:
                        made[key] = Int8Linear(child)
                    setattr(module, name, made[key])


def _large(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and tensor.ndim >= 2 and tensor.numel() >= MIN_LARGE_SIZE


def _as_float(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype == torch.bfloat16 else tensor
