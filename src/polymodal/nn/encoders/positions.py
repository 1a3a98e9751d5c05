"""Where a token stands: learned or fixed position vectors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from polymodal.core.errors import RecipeError
from polymodal.nn.layers.transformer import sinusoidal_positions


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
