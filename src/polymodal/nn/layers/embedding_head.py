"""Projection heads for embeddings, L2 normalization, and Matryoshka prefixes."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional


class Head(nn.Module):
    """A projection head: pooled features `[batch, width]` -> embeddings `[batch, embedding_dim]`, not normalized; use
    `l2_normalize` to compare them by cosine similarity.

    z = W LN(x), or with a hidden layer (Chen et al., "A Simple Framework for Contrastive Learning of Visual
    Representations", 2020):  z = W_2 dropout(GELU(W_1 LN(x)))

    hidden_size: units of the hidden layer; None: one linear layer

    Example:
        >>> import torch
        >>> head = EmbeddingHead(32, 8)
        >>> l2_normalize(head(torch.randn(4, 32))).shape
        torch.Size([4, 8])
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
    """`x [..., dim]` divided by its L2 norm, in fp32; a zero vector stays zero, with a finite gradient."""
    return functional.normalize(x.float(), dim=-1)


def prefixes(x: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """The L2-normalized first `s` dimensions of each vector, for each `s` of `sizes`: a list of `[..., s]` fp32."""
    return [unit(x[..., :size]) for size in sizes]


def halvings(size: int, least: int = 8) -> list[int]:
    """`size` halved repeatedly, down to `minimum`, in ascending order.

    Example:
        >>> halved_dims(64)
        [8, 16, 32]
    """
    found = []
    while size // 2 >= least:
        size //= 2
        found.append(size)
    return found[::-1]
