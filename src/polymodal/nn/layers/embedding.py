"""Heads that map a summary to the vector by which rows are compared, and the vectors' length and prefixes."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional


class Head(nn.Module):
    """A summary `[batch, width]` -> `[batch, size]`, not normalised; compare directions of it (`unit`).

    z = W LN(x), or with `hidden` units between (Chen et al., "A Simple Framework for Contrastive Learning of Visual
    Representations", 2020):  z = W_2 dropout(GELU(W_1 LN(x)))

    hidden: units of the layer between; None: one linear map
    """

    def __init__(self, width: int, size: int, hidden: int | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        if hidden is None:
            self.map: nn.Module = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, size))
        else:
            self.map = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, size))

    def forward(self, pooled: Tensor) -> Tensor:
        return self.map(self.norm(pooled))


def unit(x: Tensor) -> Tensor:
    """`x [.., size]` divided by its L2 norm, in fp32; a vector of zeros stays zeros, with a finite gradient."""
    return functional.normalize(x.float(), dim=-1)


def prefixes(x: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """The first `s` numbers of each vector for each `s` of `sizes`, of unit length: a list of `[.., s]` fp32."""
    return [unit(x[..., :size]) for size in sizes]


def halvings(size: int, least: int = 8) -> list[int]:
    """The half of `size`, the half of that, and so on down to `least`; the shortest first."""
    found = []
    while size // 2 >= least:
        size //= 2
        found.append(size)
    return found[::-1]
