"""Position embeddings (learned or sinusoidal) and timestamp embeddings."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from polymodal.core.errors import RecipeError
from polymodal.nn.layers.transformer import sinusoidal_positions

# Periods of the timestamp embedding in seconds: from less than the frame interval to the length of a long video.
MIN_PERIOD, MAX_PERIOD, NUM_PERIODS = 0.1, 1_000.0, 16


class PositionEmbedding(nn.Module):
    """Adds a position embedding to each of up to `length` tokens.

    kind: "learned" (initialized with a standard deviation of 0.3, large enough to have an effect early in training), or
        "sincos": fixed sinusoids
    grid: `(rows, columns)` of tokens in row-major order; the fixed embedding then encodes the row in the first half of
        the width and the column in the second half

    Example:
        >>> import torch
        >>> PositionEmbedding("sincos", 6, 16, grid=(2, 3))(torch.zeros(1, 6, 16)).shape
        torch.Size([1, 6, 16])
    """

    def __init__(self, kind: str, length: int, width: int, grid: tuple[int, int] | None = None) -> None:
        super().__init__()
        if kind == "learned":
            self.table = nn.Parameter(0.3 * torch.randn(length, width))
        else:
            fixed = sinusoidal_positions(length, width) if grid is None else grid_positions(*grid, width)
            self.register_buffer("table", fixed, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """`x [items, up to length, width]` with the position embedding added."""
        return x + self.table[: x.shape[1]].to(x.dtype)


class TimestampEmbedding(nn.Module):
    """An embedding of timestamps: a learned projection of sines and cosines of the time t in seconds.

        m(t) = W [sin(2 pi t / p_i); cos(2 pi t / p_i)] ,  p_i from 0.1 s to 1,000 s in equal ratios

    It encodes the time between frames, independent of the frame rate.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.projection = nn.Linear(2 * NUM_PERIODS, width, bias=False)

    def forward(self, times: Tensor) -> Tensor:
        """`times [items, length]` in seconds -> `[items, length, width]`."""
        step = torch.linspace(0, 1, NUM_PERIODS, device=times.device)
        period = MIN_PERIOD * torch.exp(step * math.log(MAX_PERIOD / MIN_PERIOD))
        angle = 2 * math.pi * times.float().unsqueeze(-1) / period
        return self.projection(torch.cat([angle.sin(), angle.cos()], dim=-1).to(self.projection.weight.dtype))


def grid_positions(rows: int, columns: int, width: int) -> Tensor:
    """Two-dimensional sinusoidal position embedding `[rows * columns, width]`, in row-major order."""
    half = width // 2
    row_positions = sinusoidal_positions(rows, half).repeat_interleave(columns, dim=0)
    column_positions = sinusoidal_positions(columns, width - half).repeat(rows, 1)
    return torch.cat([row_positions, column_positions], dim=1)


def check_heads(heads: int, width: int) -> None:
    """Check that the number of attention heads divides the hidden size.

    Raises:
        RecipeError: it does not.
    """
    if width % heads:
        raise RecipeError("num_heads", f"{heads} heads do not divide the width of {width}")
