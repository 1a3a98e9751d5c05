"""Projection heads for embeddings, L2 normalization, and Matryoshka prefixes."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional


class EmbeddingHead(nn.Module):
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

    def __init__(self, width: int, size: int, hidden_size: int | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        if hidden_size is None:
            self.projection: nn.Module = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, size))
        else:
            self.projection = nn.Sequential(
                nn.Linear(width, hidden_size), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden_size, size)
            )

    def forward(self, pooled: Tensor) -> Tensor:
        return self.projection(self.norm(pooled))


def l2_normalize(x: Tensor) -> Tensor:
    """`x [..., dim]` divided by its L2 norm, in fp32; a zero vector stays zero, with a finite gradient."""
    return functional.normalize(x.float(), dim=-1)


def matryoshka_prefixes(x: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """The L2-normalized first `s` dimensions of each vector, for each `s` of `sizes`: a list of `[..., s]` fp32."""
    return [l2_normalize(x[..., :size]) for size in sizes]


def halved_dims(size: int, minimum: int = 8) -> list[int]:
    """`size` halved repeatedly, down to `minimum`, in ascending order.

    Example:
        >>> halved_dims(64)
        [8, 16, 32]
    """
    halved = []
    while size // 2 >= minimum:
        size //= 2
        halved.append(size)
    return halved[::-1]
