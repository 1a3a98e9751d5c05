"""A stack of LSTM layers over padded sequences."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LSTMStack(nn.Module):
    """A stack of LSTM layers (Hochreiter and Schmidhuber, "Long Short-Term Memory", 1997), optionally in both
    directions (Schuster and Paliwal, "Bidirectional Recurrent Neural Networks", 1997).

    The output of a step is `[forward state; backward state]`, with `self.width` values. The backward direction starts
    at the last step of each sequence, so padding does not affect real steps.
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int, dropout: float, *, bidirectional: bool = True
    ) -> None:
        super().__init__()
        self.width = hidden_size * (2 if bidirectional else 1)
        sizes = [input_size] + [self.width] * (num_layers - 1)
        self.dropout = nn.Dropout(dropout)
        self.forward_layers = nn.ModuleList(nn.LSTM(size, hidden_size, batch_first=True) for size in sizes)
        self.backward_layers = nn.ModuleList(
            nn.LSTM(size, hidden_size, batch_first=True) for size in sizes if bidirectional
        )

    def forward(self, x: Tensor, length: Tensor) -> Tensor:
        """`x [items, steps, size]`, `length [items]` -> `[items, steps, width]`."""
        for layer, lstm in enumerate(self.forward_layers):
            x = self.dropout(x)
            states = [lstm(x)[0]]
            if self.backward_layers:
                states.append(reverse_sequences(self.backward_layers[layer](reverse_sequences(x, length))[0], length))
            x = torch.cat(states, dim=-1)
        return x


def reverse_sequences(x: Tensor, length: Tensor) -> Tensor:
    """Reverse each sequence of `x [items, length, width]` within its own length; padding stays at the end.

    The function is its own inverse.
    """
    position = torch.arange(x.shape[1], device=x.device)
    last = length.unsqueeze(1)
    source = torch.where(position < last, last - 1 - position, position)
    return x.gather(1, source.unsqueeze(-1).expand_as(x))
