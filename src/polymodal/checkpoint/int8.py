"""Weights in eight bits."""

from __future__ import annotations

import torch
from torch import Tensor, nn

#: What the rounded inputs are moved by, as the kernel multiplies unsigned numbers.
OFFSET = 128


def quantise(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Integers `[out, ...]` int8 and scales `[out]` fp32 of a weight:

        s_o = max |w_o| / 127 ;  q = round(w / s_o)

    symmetric, one scale for each output channel (Krishnamoorthi, "Quantizing deep convolutional networks for efficient
    inference", 2018, sections 2.2 and 3.1). Rounding what `restore` gives changes nothing.
    """
    rows = weight.detach().float().reshape(len(weight), -1)
    scale = rows.abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny) / 127
    whole = (rows / scale.unsqueeze(1)).round().clamp(-127, 127).to(torch.int8)
    return whole.reshape(weight.shape), scale


def restore(whole: Tensor, scale: Tensor) -> Tensor:
    """The fp32 weight `q s` of integers `[out, ...]` and scales `[out]`."""
    return whole.float() * scale.reshape(-1, *[1] * (whole.ndim - 1))


class Int8Linear(nn.Module):
    """A linear layer that multiplies in int8, the inputs rounded row by row as they come:

        s_x = max |x| / 127 ;  q_x = round(x / s_x) ;  y = s_x s_w (q_x q_w) + b

    Each row has a scale of its own, so that it does not depend on what it is batched with. The module keeps the
    layer's parameters for `state_dict`; what it computes with is packed once, for prediction only.
    """

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        self.in_features, self.out_features = layer.in_features, layer.out_features
        whole, self._scale = quantise(layer.weight)
        self._zero = torch.zeros(len(whole), dtype=torch.int32)
        self._packed = torch.ops.onednn.qlinear_prepack(whole, None)

    def forward(self, x: Tensor) -> Tensor:
        """`[..., in]` -> `[..., out]` in the type of `x`."""
        rows = x.reshape(-1, self.in_features).float()
        scale = rows.abs().amax(1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny) / 127
        whole = rows.div(scale).round_().add_(OFFSET).to(torch.uint8)
        y = torch.ops.onednn.qlinear_pointwise(
            whole, 1.0, OFFSET, self._packed, self._scale, self._zero, None, 1.0, 0, torch.float32, "none", [], ""
        )
        y = y.mul_(scale)
        if self.bias is not None:
            y = y.add_(self.bias)
        return y.view(*x.shape[:-1], self.out_features).to(x.dtype)


def computes_int8() -> bool:
    """Whether this build of torch multiplies eight-bit integers on this processor."""
    return hasattr(torch.ops.onednn, "qlinear_pointwise") and bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
