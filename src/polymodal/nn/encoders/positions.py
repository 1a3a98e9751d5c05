"""Where a token stands: learned or fixed vectors of places, and of moments."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from polymodal.core.errors import RecipeError
from polymodal.nn.layers.transformer import sinusoidal_positions

# Periods of the code of a moment, in seconds: from below the distance of two frames to the length of a long clip.
SHORTEST, LONGEST, PERIODS = 0.1, 1_000.0, 16


class Positions(nn.Module):
    """Adds a vector to each of up to `length` positions.

    way: "learned" (from a start large enough that place is seen early), or "sincos": fixed sines and cosines
    grid: `(rows, columns)` of tokens that lie row by row; the fixed vectors then tell the row in the first
        half of the width and the column in the second
    """

    def __init__(self, way: str, length: int, width: int, grid: tuple[int, int] | None = None) -> None:
        super().__init__()
        if way == "learned":
            self.table = nn.Parameter(0.3 * torch.randn(length, width))
        else:
            fixed = sinusoidal_positions(length, width) if grid is None else grid_positions(*grid, width)
            self.register_buffer("table", fixed, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """`x [items, up to length, width]` with the positions added."""
        return x + self.table[: x.shape[1]].to(x.dtype)


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


def grid_positions(rows: int, columns: int, width: int) -> Tensor:
    """`[rows * columns, width]`, row by row."""
    half = width // 2
    down = sinusoidal_positions(rows, half).repeat_interleave(columns, dim=0)
    along = sinusoidal_positions(columns, width - half).repeat(rows, 1)
    return torch.cat([down, along], dim=1)


def check_heads(heads: int, width: int) -> None:
    """Raises RecipeError unless attention heads divide the width."""
    if width % heads:
        raise RecipeError("heads", f"{heads} heads do not divide the width of {width}")
