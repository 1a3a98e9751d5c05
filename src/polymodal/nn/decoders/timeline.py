"""The decoder of timelines: what each input says moment by moment, on the cells of a grid."""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from polymodal.core.options import sized_field
from polymodal.core.registry import register
from polymodal.core.types import Grid, OutputShape, Tokens, FusionOutput
from polymodal.nn.decoders.base import Decoder, DecoderOptions
from polymodal.nn.layers.transformer import sinusoidal_positions

#: Numbers in one layer's output for the rows that are decided at once; more rows are decided in turn.
MOST_NUMBERS = 2**23


@register
class Timeline(Decoder):
    """Each cell of a timeline, from the tokens of that time, its neighbours in time, and the row as a whole.

    The tokens of every input with a timeline are put on the cells of the grid (`on_grid`), normalised, mapped by one
    shared linear layer and added up, and the pooled view, mapped linearly, is added to every cell. Cells after the
    end of an input hold a learned vector instead, and so do, with a code of their position, all cells of a row that
    lacks the input; without any input that has a timeline, the position alone tells cells apart. Then come residual
    layers over time,

        x <- x + dropout(W gelu(conv(norm(x)))),   layer i with dilation 2^i

    (Bai, Kolter and Koltun, "An Empirical Evaluation of Generic Convolutional and Recurrent Networks for Sequence
    Modeling", 2018, but looking to both sides), and a linear layer to the labels of each cell. A task without a grid
    is decided as one cell that spans the whole row.
    """

    class Options(DecoderOptions):
        name: Literal["timeline"] = "timeline"
        hidden: int = sized_field(64, 128, 256, ge=1)
        """Channels of the layers over time."""
        layers: int = sized_field(3, 4, 6, ge=0, le=12)
        """Number of layers over time; each looks twice as far as the one before."""
        kernel: int = Field(default=5, ge=3, le=31)
        """Cells that each layer looks at; even numbers count as the next odd one."""
        dropout: float = Field(default=0.1, ge=0, lt=1)
        """Share of hidden units dropped in training."""

    places: Tensor

    def __init__(self, options: Options, *, width: int, shape: OutputShape) -> None:
        super().__init__(options, width=width, shape=shape)
        self.grid = shape.grid
        cells = shape.grid.frames if shape.grid is not None else 1
        hidden = options.hidden
        self.norm, self.project = nn.LayerNorm(width), nn.Linear(width, hidden)
        self.whole = nn.Linear(width, hidden)
        self.past = nn.Parameter(0.02 * torch.randn(hidden))
        self.absent = nn.Parameter(0.02 * torch.randn(hidden))
        self.register_buffer("places", sinusoidal_positions(cells, hidden), persistent=False)
        self.layers = nn.Sequential(
            *(_OverTime(hidden, options.kernel, 2**place, options.dropout) for place in range(options.layers))
        )
        self.decide = nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, shape.values // cells))

    def forward(self, view: FusionOutput) -> Tensor:
        rows, hidden = len(view.pooled), self.places.shape[1]
        at_once = max(1, MOST_NUMBERS // (len(self.places) * hidden))
        if rows <= at_once:
            return self._decide(view.pooled, view.timed_inputs)
        parts = []
        for start in range(0, rows, at_once):
            part = slice(start, start + at_once)
            arguments: tuple[Any, ...] = (view.pooled[part], tuple(_rows_of(one, part) for one in view.timed_inputs))
            if torch.is_grad_enabled():  # what the layers computed is computed again when gradients need it
                parts.append(checkpoint(self._decide, *arguments, use_reentrant=False))
            else:
                parts.append(self._decide(*arguments))
        return torch.cat(parts)

    def _decide(self, pooled: Tensor, timed: tuple[Tokens, ...]) -> Tensor:
        x = self.whole(pooled).unsqueeze(1)
        places = (self.absent + self.places).to(x.dtype)
        for tokens in timed:
            x = x + torch.where(tokens.present.view(-1, 1, 1), self._placed(tokens).to(x.dtype), places)
        if not timed:
            x = x + places
        return self.decide(self.layers(x)).flatten(1)

    def _placed(self, tokens: Tokens) -> Tensor:
        """What one input says in each cell, `[batch, cells, hidden]`."""
        if self.grid is None or tokens.times is None:
            return self.project(self.norm(tokens.pooled())).unsqueeze(1)
        cells, there = on_grid(tokens.features, tokens.mask, tokens.times, self.grid)
        placed = self.project(self.norm(cells))
        return torch.where(there.unsqueeze(-1), placed, self.past.to(placed.dtype))


class _OverTime(nn.Module):
    """One residual layer over the cells, `[batch, cells, hidden]`."""

    def __init__(self, hidden: int, kernel: int, dilation: int, dropout: float) -> None:
        super().__init__()
        reach = kernel // 2
        self.norm = nn.LayerNorm(hidden)
        self.look = nn.Conv1d(hidden, hidden, 2 * reach + 1, padding=reach * dilation, dilation=dilation)
        self.mix = nn.Sequential(nn.GELU(), nn.Linear(hidden, hidden), nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        looked = self.look(self.norm(x).transpose(1, 2)).transpose(1, 2)
        return x + self.mix(looked)


def on_grid(features: Tensor, mask: Tensor, times: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Tokens on the cells of a timeline: `[batch, cells, width]`, and `[batch, cells]` bool, False after the end.

    features, mask, times: `[batch, length, width]`, `[batch, length]` True = real, `[batch, length]` seconds

    A token at time t counts for the two cells whose centres lie around t, by 1 - |t - centre| / cell; a cell holds
    the weighted mean of its tokens. Cells between tokens that are farther apart hold the linear interpolation of the
    nearest cells with tokens; cells before the first hold what that holds. The end of an item is taken to be as far
    behind its last token as its start (second 0) is before its first.
    """
    frames, width = grid.frames, grid.seconds / grid.frames
    rows = len(features)
    features, times = features.float(), times.float()
    place = times / width - 0.5
    real = mask & (place > -1) & (place < frames)
    low = place.floor()
    share = place - low
    sums = features.new_zeros(rows * (frames + 2), features.shape[2] + 1)
    padded = torch.cat([features, torch.ones_like(features[..., :1])], dim=-1)
    first = torch.arange(rows, device=features.device).unsqueeze(1) * (frames + 2) + 1
    for offset, weight in ((0, 1 - share), (1, share)):
        at = torch.where(real, low.clamp(-1, frames - 1).long() + offset, -1) + first
        kept = torch.where(real, weight, 0.0).unsqueeze(-1)
        sums = sums.index_add(0, at.flatten(), (padded.masked_fill(~real.unsqueeze(-1), 0.0) * kept).flatten(0, 1))
    sums = sums.view(rows, frames + 2, -1)[:, 1:-1]
    count = sums[..., -1:]
    held = count.squeeze(-1) > 1e-3
    cells = torch.where(held.unsqueeze(-1), sums[..., :-1] / count.clamp_min(1e-3), 0.0)

    places = torch.arange(frames, device=features.device).expand(rows, frames)
    before = torch.where(held, places, -1).cummax(1).values
    after = torch.where(held, places, frames).flip(1).cummin(1).values.flip(1)
    left = torch.where(before >= 0, before, after).clamp_max(frames - 1)
    right = torch.where(after < frames, after, before).clamp_min(0)
    between = (places - left) / (right - left).clamp_min(1)
    cells = torch.lerp(_taken(cells, left), _taken(cells, right), between.unsqueeze(-1))

    latest = times.masked_fill(~mask, -torch.inf).amax(1, keepdim=True)
    earliest = times.masked_fill(~mask, torch.inf).amin(1, keepdim=True)
    centres = (places + 0.5) * width
    there = (held | (centres <= latest + earliest)) & held.any(1, keepdim=True)
    return cells, there


def _taken(cells: Tensor, places: Tensor) -> Tensor:
    return cells.gather(1, places.unsqueeze(-1).expand(-1, -1, cells.shape[2]))


def _rows_of(tokens: Tokens, part: slice) -> Tokens:
    times = None if tokens.times is None else tokens.times[part]
    return Tokens(tokens.features[part], tokens.mask[part], tokens.present[part], times)
