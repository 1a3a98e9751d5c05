"""Int8 quantization of weights, and a linear layer with int8 products."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from polymodal.runtime.cpu_kernels import INT8_MAX, int8_linear, prepack_int8, supports_int8


def quantize(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Integers `[out, ...]` int8 and scales `[out]` fp32 of a weight:

        s_o = max |w_o| / 127 ;  q = round(w / s_o)

    symmetric, one scale for each output channel (Krishnamoorthi, "Quantizing deep convolutional networks for efficient
    inference", 2018, sections 2.2 and 3.1). Quantizing the output of `dequantize` again changes nothing.
    """
    rows = weight.detach().float().reshape(len(weight), -1)
    scale = rows.abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny) / INT8_MAX
    integers = (rows / scale.unsqueeze(1)).round().clamp(-INT8_MAX, INT8_MAX).to(torch.int8)
    return integers.reshape(weight.shape), scale


def dequantize(integers: Tensor, scale: Tensor) -> Tensor:
    """The fp32 weight `q s` of integers `[out, ...]` and scales `[out]`."""
    return integers.float() * scale.reshape(-1, *[1] * (integers.ndim - 1))


class Int8Linear(nn.Module):
    """A linear layer with int8 products (dynamic quantization of the inputs, row by row):

        s_x = max |x| / 127 ;  q_x = round(x / s_x) ;  y = s_x s_w (q_x q_w) + b

    Each row has its own scale, so its output does not depend on the other rows of the batch. The module keeps the
    parameters of the layer for `state_dict`; the quantized matrix is computed once, for prediction only.

    If the processor does not support int8 products (`supports_int8`), and on other devices than the CPU, the same
    integers are multiplied in fp32. The sums are exact up to 1,040 inputs and rounded beyond. The predictions are then
    the same, but not faster than in fp32, and each integer takes 4 bytes of memory. The device of the layer cannot be
    changed afterwards.
    """

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        self.in_features, self.out_features = layer.in_features, layer.out_features
        integers, self._scale = quantize(layer.weight)
        self._in_int8 = layer.weight.is_cpu and supports_int8()
        self._matrix = prepack_int8(integers) if self._in_int8 else integers.float()

    def forward(self, x: Tensor) -> Tensor:
        """`[..., in]` -> `[..., out]` in the dtype of `x`."""
        rows = x.reshape(-1, self.in_features).float()
        scale = rows.abs().amax(1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny) / INT8_MAX
        y = self._products(rows.div(scale).round_()).mul_(scale)
        if self.bias is not None:
            y = y.add_(self.bias)
        return y.view(*x.shape[:-1], self.out_features).to(x.dtype)

    def _products(self, integers: Tensor) -> Tensor:
        """`s_w (q_x q_w)` of the rounded inputs `[rows, in]`, which are overwritten."""
        if self._in_int8:
            return int8_linear(integers, self._matrix, self._scale)
        with torch.autocast(integers.device.type, enabled=False):
            return functional.linear(integers, self._matrix).mul_(self._scale)
