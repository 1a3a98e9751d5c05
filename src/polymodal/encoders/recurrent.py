"""A stack of recurrent layers over padded sequences, read in both directions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from polymodal.encoders.sequences import reverse


class TwoWayLSTM(nn.Module):
    """Long short-term memory (Hochreiter and Schmidhuber, "Long Short-Term Memory", 1997) in both directions (Schuster
    and Paliwal, "Bidirectional Recurrent Neural Networks", 1997), `layers` times.

    The backward pass starts at each sequence's own last step, so padding never reaches a real step.
    """

    def __init__(self, size: int, hidden: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.width = 2 * hidden
        sizes = [size] + [self.width] * (layers - 1)
        self.dropout = nn.Dropout(dropout)
        self.ahead = nn.ModuleList(nn.LSTM(size, hidden, batch_first=True) for size in sizes)
        self.back = nn.ModuleList(nn.LSTM(size, hidden, batch_first=True) for size in sizes)

    def forward(self, x: Tensor, length: Tensor) -> Tensor:
        """`x [items, steps, size]`, `length [items]` -> `[items, steps, 2 * hidden]`."""
        for ahead, back in zip(self.ahead, self.back, strict=True):
            x = self.dropout(x)
            x = torch.cat([ahead(x)[0], reverse(back(reverse(x, length))[0], length)], dim=-1)
        return x
