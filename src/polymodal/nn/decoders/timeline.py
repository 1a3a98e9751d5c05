"""Timeline decoder: predictions on the cells of a time grid."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from polymodal.core.needs import needs_above
from polymodal.core.options import sized_field
from polymodal.core.registry import register
from polymodal.core.types import FusionOutput, OutputShape, TimeGrid, Tokens
from polymodal.nn.decoders.base import Decoder, DecoderOptions
from polymodal.nn.layers.transformer import sinusoidal_positions

#: Maximum size of a layer's output for the rows that are decoded at once; more rows are decoded in several parts.
MAX_LAYER_SIZE = 2**23


@register
class Timeline(Decoder):
    """Predicts each cell of a timeline from the tokens at that time, the neighboring cells, and the whole row.

    The tokens of every input with a timeline are placed on the cells of the grid (`on_grid`), normalized, mapped by one
    shared linear layer and summed. The pooled fusion output, mapped linearly, is added to every cell. Cells after the
    end of an input get a learned vector instead. All cells of a row that lacks the input get a learned vector plus a
    position embedding. If no input has a timeline, only the position embedding distinguishes the cells. Residual layers
    over time follow,

        x <- x + dropout(W gelu(conv(norm(x)))),   layer i with dilation 2^i

    (Bai, Kolter and Koltun, "An Empirical Evaluation of Generic Convolutional and Recurrent Networks for Sequence
    Modeling", 2018, but not causal), and a linear layer to the labels of each cell. A task without a grid is decoded as
    one cell that covers the whole row.
    """

    class Options(DecoderOptions):
        name: Literal["timeline"] = "timeline"
        hidden_size: int = sized_field(64, 128, 256, ge=1)
        """Channels of the layers over time."""
        num_layers: int = sized_field(3, 4, 6, ge=0, le=12)
        """Number of layers over time; the dilation doubles with each layer."""
        kernel_size: Annotated[int, needs_above("num_layers", 0)] = Field(default=5, ge=3, le=31)
        """Kernel size of each layer in cells; even numbers are rounded up to the next odd number."""
        dropout: Annotated[float, needs_above("num_layers", 0)] = Field(default=0.1, ge=0, lt=1)
        """Dropout probability of the hidden units."""

    positions: Tensor

    def __init__(self, options: Options, *, width: int, shape: OutputShape) -> None:
        super().__init__(options, width=width, shape=shape)
        self.grid = shape.grid
        cells = shape.grid.frames if shape.grid is not None else 1
        hidden = options.hidden_size
        self.norm, self.project = nn.LayerNorm(width), nn.Linear(width, hidden)
        self.whole = nn.Linear(width, hidden)
        self.after_end = nn.Parameter(0.02 * torch.randn(hidden))
        self.missing = nn.Parameter(0.02 * torch.randn(hidden))
        self.register_buffer("positions", sinusoidal_positions(cells, hidden), persistent=False)
        self.layers = nn.Sequential(
            *(
                _TemporalConvLayer(hidden, options.kernel_size, 2**index, options.dropout)
                for index in range(options.num_layers)
            )
        )
        self.classifier = nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, shape.values // cells))

    def forward(self, fused: FusionOutput) -> Tensor:
        rows, hidden = len(fused.pooled), self.positions.shape[1]
        rows_per_part = max(1, MAX_LAYER_SIZE // (len(self.positions) * hidden))
        if rows <= rows_per_part:
            return self._decode(fused.pooled, fused.timed_inputs)
        parts = []
        for start in range(0, rows, rows_per_part):
            part = slice(start, start + rows_per_part)
            timed = tuple(_rows_of(tokens, part) for tokens in fused.timed_inputs)
            arguments: tuple[Any, ...] = (fused.pooled[part], timed)
            if torch.is_grad_enabled():  # activations are recomputed in the backward pass
                parts.append(checkpoint(self._decode, *arguments, use_reentrant=False))
            else:
                parts.append(self._decode(*arguments))
        return torch.cat(parts)

    def _decode(self, pooled: Tensor, timed: tuple[Tokens, ...]) -> Tensor:
        x = self.whole(pooled).unsqueeze(1)  # [batch, 1, hidden_size]
        missing = (self.missing + self.positions).to(x.dtype)
        for tokens in timed:
            x = x + torch.where(
                tokens.present.view(-1, 1, 1), self._on_cells(tokens).to(x.dtype), missing
            )  # [batch, cells, hidden_size]
        if not timed:
            x = x + missing
        return self.classifier(self.layers(x)).flatten(1)

    def _on_cells(self, tokens: Tokens) -> Tensor:
        """The features of one input in each cell, `[batch, cells, hidden_size]`."""
        if self.grid is None or tokens.times is None:
            return self.project(self.norm(tokens.pooled())).unsqueeze(1)
        cells, before_end = on_grid(tokens.features, tokens.mask, tokens.times, self.grid)
        projected = self.project(self.norm(cells))
        return torch.where(before_end.unsqueeze(-1), projected, self.after_end.to(projected.dtype))


class _TemporalConvLayer(nn.Module):
    """One residual convolution over the cells, `[batch, cells, hidden_size]`."""

    def __init__(self, hidden: int, kernel: int, dilation: int, dropout: float) -> None:
        super().__init__()
        radius = kernel // 2
        self.norm = nn.LayerNorm(hidden)
        self.conv = nn.Conv1d(hidden, hidden, 2 * radius + 1, padding=radius * dilation, dilation=dilation)
        self.mix = nn.Sequential(nn.GELU(), nn.Linear(hidden, hidden), nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        convolved = self.conv(self.norm(x).transpose(1, 2)).transpose(1, 2)
        return x + self.mix(convolved)


def on_grid(features: Tensor, mask: Tensor, times: Tensor, grid: TimeGrid) -> tuple[Tensor, Tensor]:
    """Interpolate tokens to the cells of a timeline: `[batch, cells, width]`, and `[batch, cells]` bool, False after
    the end.

    features, mask, times: `[batch, length, width]`, `[batch, length]` True = real, `[batch, length]` seconds

    A token at time t contributes to the two cells whose centers are nearest, with weight 1 - |t - center| / cell. A
    cell is the weighted mean of its tokens. Cells without tokens are linearly interpolated between the nearest cells
    with tokens; cells before the first of these copy it. The end of an item is assumed to be as far after its last
    token as its start (second 0) is before its first token.
    """
    frames, cell = grid.frames, grid.seconds / grid.frames
    rows = len(features)
    features, times = features.float(), times.float()
    position = times / cell - 0.5
    real = mask & (position > -1) & (position < frames)
    low = position.floor()
    fraction = position - low
    sums = features.new_zeros(rows * (frames + 2), features.shape[2] + 1)
    padded = torch.cat([features, torch.ones_like(features[..., :1])], dim=-1)
    first = torch.arange(rows, device=features.device).unsqueeze(1) * (frames + 2) + 1
    for offset, weight in ((0, 1 - fraction), (1, fraction)):
        index = torch.where(real, low.clamp(-1, frames - 1).long() + offset, -1) + first
        weight = torch.where(real, weight, 0.0).unsqueeze(-1)
        weighted = padded.masked_fill(~real.unsqueeze(-1), 0.0) * weight
        sums = sums.index_add(0, index.flatten(), weighted.flatten(0, 1))
    sums = sums.view(rows, frames + 2, -1)[:, 1:-1]
    count = sums[..., -1:]
    occupied = count.squeeze(-1) > 1e-3
    cells = torch.where(occupied.unsqueeze(-1), sums[..., :-1] / count.clamp_min(1e-3), 0.0)

    positions = torch.arange(frames, device=features.device).expand(rows, frames)
    before = torch.where(occupied, positions, -1).cummax(1).values
    after = torch.where(occupied, positions, frames).flip(1).cummin(1).values.flip(1)
    left = torch.where(before >= 0, before, after).clamp_max(frames - 1)
    right = torch.where(after < frames, after, before).clamp_min(0)
    between = (positions - left) / (right - left).clamp_min(1)
    cells = torch.lerp(_gather(cells, left), _gather(cells, right), between.unsqueeze(-1))

    latest = times.masked_fill(~mask, -torch.inf).amax(1, keepdim=True)
    earliest = times.masked_fill(~mask, torch.inf).amin(1, keepdim=True)
    centers = (positions + 0.5) * cell
    before_end = (occupied | (centers <= latest + earliest)) & occupied.any(1, keepdim=True)
    return cells, before_end


def _gather(cells: Tensor, positions: Tensor) -> Tensor:
    return cells.gather(1, positions.unsqueeze(-1).expand(-1, -1, cells.shape[2]))


def _rows_of(tokens: Tokens, part: slice) -> Tokens:
    times = None if tokens.times is None else tokens.times[part]
    return Tokens(tokens.features[part], tokens.mask[part], tokens.present[part], times)
