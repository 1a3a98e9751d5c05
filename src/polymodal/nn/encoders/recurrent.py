"""A stack of recurrent layers over padded sequences."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from polymodal.nn.encoders.sequences import reverse


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
