"""What clip encoders share: frames with and without padding, and the code of a moment."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

# Periods of the code of a moment, in seconds: from below the distance of two frames to the length of a long clip.
SHORTEST, LONGEST, PERIODS = 0.1, 1_000.0, 16


def real_frames(data: dict[str, Tensor]) -> Tensor:
    """`[items, frames]` bool of `pixels [items, frames, ...]`: True where a frame is within its item's `length`."""
    return torch.arange(data["pixels"].shape[1], device=data["length"].device) < data["length"].unsqueeze(1)


def pack(pixels: Tensor, real: Tensor) -> Tensor:
    """The real frames of all items one after another: `[items, frames, 3, height, width]` -> `[real, 3, height,
    width]`, laid out channels-last.
    """
    last = pixels.permute(0, 1, 3, 4, 2).flatten(0, 1)
    if not bool(real.all()):
        last = last.index_select(0, real.flatten().nonzero().squeeze(1))
    return last.permute(0, 3, 1, 2)


def unpack(frames: Tensor, real: Tensor) -> Tensor:
    """The inverse of `pack` for features `[real, width]`: `[items, frames, width]`, zeros in the padding."""
    if len(frames) == real.numel():
        return frames.view(*real.shape, -1)
    spread = frames.new_zeros(real.numel(), frames.shape[-1])
    return spread.index_copy(0, real.flatten().nonzero().squeeze(1), frames).view(*real.shape, -1)


class Moments(nn.Module):
    """A vector for each moment: a learned mix of sines and cosines of the seconds t.

        m(t) = W [sin(2 pi t / p_i); cos(2 pi t / p_i)] ,  p_i from 0.1 s to 1,000 s in equal ratios

    So frames tell how far apart they are, whatever the number of frames a second.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix = nn.Linear(2 * PERIODS, width, bias=False)

    def forward(self, times: Tensor) -> Tensor:
        """`times [items, length]` in seconds -> `[items, length, width]`."""
        step = torch.linspace(0, 1, PERIODS, device=times.device)
        period = SHORTEST * torch.exp(step * math.log(LONGEST / SHORTEST))
        angle = 2 * math.pi * times.float().unsqueeze(-1) / period
        return self.mix(torch.cat([angle.sin(), angle.cos()], dim=-1).to(self.mix.weight.dtype))
