"""Weights in eight bits."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from polymodal.runtime.cpu_kernels import INT8_MAX, int8_linear, supports_int8, prepack_int8


def quantize(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Integers `[out, ...]` int8 and scales `[out]` fp32 of a weight:

        s_o = max |w_o| / 127 ;  q = round(w / s_o)

    symmetric, one scale for each output channel (Krishnamoorthi, "Quantizing deep convolutional networks for efficient
    inference", 2018, sections 2.2 and 3.1). Rounding what `dequantize` gives changes nothing.
    """
    rows = weight.detach().float().reshape(len(weight), -1)
    scale = rows.abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny) / INT8_MAX
    whole = (rows / scale.unsqueeze(1)).round().clamp(-INT8_MAX, INT8_MAX).to(torch.int8)
    return whole.reshape(weight.shape), scale


def dequantize(whole: Tensor, scale: Tensor) -> Tensor:
    """The fp32 weight `q s` of integers `[out, ...]` and scales `[out]`."""
    return whole.float() * scale.reshape(-1, *[1] * (whole.ndim - 1))


class Int8Linear(nn.Module):
    """A linear layer that multiplies in int8, the inputs rounded row by row as they come:

        s_x = max |x| / 127 ;  q_x = round(x / s_x) ;  y = s_x s_w (q_x q_w) + b

    Each row has a scale of its own, so that it does not depend on what it is batched with. The module keeps the
    layer's parameters for `state_dict`; what it computes with is made once, for prediction only.

    Where the processor does not multiply int8 rightly (`supports_int8`), the same integers are multiplied in fp32,
    whose sums are exact up to 1,040 inputs and beyond that rounded as in any layer. So a model gives the same answers
    there, but no faster than in fp32, and its integers take 4 bytes each in memory.
    """

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        self.in_features, self.out_features = layer.in_features, layer.out_features
        whole, self._scale = quantize(layer.weight)
        self._in_int8 = supports_int8()
        self._matrix = prepack_int8(whole) if self._in_int8 else whole.float()

    def forward(self, x: Tensor) -> Tensor:
        """`[..., in]` -> `[..., out]` in the type of `x`."""
        rows = x.reshape(-1, self.in_features).float()
        scale = rows.abs().amax(1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny) / INT8_MAX
        y = self._products(rows.div(scale).round_()).mul_(scale)
        if self.bias is not None:
            y = y.add_(self.bias)
        return y.view(*x.shape[:-1], self.out_features).to(x.dtype)

    def _products(self, whole: Tensor) -> Tensor:
        """`s_w (q_x q_w)` of the rounded inputs `[rows, in]`, which are overwritten."""
        if self._in_int8:
            return int8_linear(whole, self._matrix, self._scale)
        with torch.autocast(whole.device.type, enabled=False):
            return functional.linear(whole, self._matrix).mul_(self._scale)
