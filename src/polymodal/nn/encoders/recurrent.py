"""A stack of recurrent layers over padded sequences."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LSTMStack(nn.Module):
    """Long short-term memory (Hochreiter and Schmidhuber, "Long Short-Term Memory", 1997), `layers` times, in both
    directions if wanted (Schuster and Paliwal, "Bidirectional Recurrent Neural Networks", 1997).

    Each step gives `[forward state; backward state]`. The backward pass starts at each sequence's own last step, so
    padding never reaches a real step. `width` is that of a step.
    """

    def __init__(self, size: int, hidden: int, layers: int, dropout: float, *, bidirectional: bool = True) -> None:
        super().__init__()
        self.width = hidden * (2 if bidirectional else 1)
        sizes = [size] + [self.width] * (layers - 1)
        self.dropout = nn.Dropout(dropout)
        self.ahead = nn.ModuleList(nn.LSTM(size, hidden, batch_first=True) for size in sizes)
        self.back = nn.ModuleList(nn.LSTM(size, hidden, batch_first=True) for size in sizes if bidirectional)

    def forward(self, x: Tensor, length: Tensor) -> Tensor:
        """`x [items, steps, size]`, `length [items]` -> `[items, steps, width]`."""
        for layer, ahead in enumerate(self.ahead):
            x = self.dropout(x)
            states = [ahead(x)[0]]
            if self.back:
                states.append(reverse(self.back[layer](reverse(x, length))[0], length))
            x = torch.cat(states, dim=-1)
        return x


def reverse(x: Tensor, length: Tensor) -> Tensor:
    """Each sequence of `x [items, length, width]` back to front within its own length; its padding stays
    behind.

    The function undoes itself.
    """
    position = torch.arange(x.shape[1], device=x.device)
    last = length.unsqueeze(1)
    source = torch.where(position < last, last - 1 - position, position)
    return x.gather(1, source.unsqueeze(-1).expand_as(x))
