"""A dense decoder of boxes without anchors."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from polymodal.core.needs import needs_above
from polymodal.core.options import sized_field
from polymodal.core.registry import register
from polymodal.core.types import FusionOutput, OutputShape, Tokens
from polymodal.nn.decoders.base import Decoder, DecoderOptions
from polymodal.nn.encoders.position_embedding import grid_positions

#: Initial logit of a label in a cell: a probability of 0.01, as in Lin et al., "Focal Loss for Dense Object Detection",
#: 2017.
PRIOR_LOGIT = -4.6


@register
class FCOS(Decoder):
    """Predicts the labels and the box of each cell of a picture, from the tokens at that place and the whole row (after
    Tian et al., "FCOS: Fully Convolutional One-Stage Object Detection", 2019).

    Each token of an image input becomes the u x u cells that it covers (a linear layer, u as needed, and bilinear
    resizing to the grid). The maps of several images are summed, with an embedding of the position. The pooled fusion
    output scales and shifts all cells (Perez et al., "FiLM: Visual Reasoning with a General Conditioning Layer", 2018),
    so that another input, such as a text, says what to look for. Residual layers follow,

        x <- x + dropout(W gelu(conv(norm(x))))

    and a linear layer to the logits of the labels and the four numbers of the box. In a row without its picture, cells
    get a learned vector. The task `object_detection` says what the numbers mean.
    """

    class Options(DecoderOptions):
        name: Literal["fcos"] = "fcos"
        hidden_size: int = sized_field(64, 128, 256, ge=4, multiple_of=4)
        """Channels of the layers."""
        num_layers: int = sized_field(3, 4, 6, ge=0, le=12)
        """Number of residual layers."""
        dropout: Annotated[float, needs_above("num_layers", 0)] = Field(default=0.1, ge=0, lt=1)
        """Dropout probability of the hidden units."""

    tasks: ClassVar[tuple[str, ...]] = ("object_detection",)
    positions: Tensor
    prior: Tensor

    def __init__(self, options: Options, *, width: int, shape: OutputShape) -> None:
        super().__init__(options, width=width, shape=shape)
        assert shape.boxes is not None
        self.grid, hidden = shape.boxes, options.hidden_size
        self.norm, self.whole = nn.LayerNorm(width), nn.Linear(width, 2 * hidden)
        self.project = nn.Linear(width, 4 * 4 * hidden)
        self.missing = nn.Parameter(0.02 * torch.randn(hidden))
        self.register_buffer("positions", grid_positions(self.grid.rows, self.grid.columns, hidden), persistent=False)
        self.layers = nn.Sequential(*(_Layer(hidden, options.dropout) for _ in range(options.num_layers)))
        self.head = nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, self.grid.labels + 4))
        self.register_buffer("prior", torch.tensor([PRIOR_LOGIT] * self.grid.labels + [0.0] * 4), persistent=False)

    def forward(self, fused: FusionOutput) -> Tensor:
        scale, shift = self.whole(fused.pooled).unsqueeze(1).chunk(2, dim=-1)
        missing = self.missing.to(shift.dtype).expand(len(shift), len(self.positions), -1)
        x = self.positions.to(shift.dtype) + (missing if not fused.pictured_inputs else 0)
        for tokens in fused.pictured_inputs:
            x = x + torch.where(tokens.present.view(-1, 1, 1), self._on_cells(tokens).to(x.dtype), missing)
        x = x * (1 + scale) + shift  # [batch, cells, hidden_size]
        x = x.transpose(1, 2).unflatten(2, (self.grid.rows, self.grid.columns))
        x = self.layers(x).flatten(2).transpose(1, 2)
        return (self.head(x) + self.prior.to(x.dtype)).flatten(1)

    def _on_cells(self, tokens: Tokens) -> Tensor:
        """The features of a picture in each cell, `[batch, cells, hidden_size]`."""
        assert tokens.grid is not None
        rows, columns = tokens.grid
        if tokens.features.shape[1] != rows * columns:  # no row of the batch has the picture
            return tokens.features.new_zeros(1, 1, 1)
        fine = self.project(self.norm(tokens.features))  # each token has 4 x 4 places
        fine = fine.view(len(fine), rows, columns, 4, 4, -1).permute(0, 5, 1, 3, 2, 4)
        fine = fine.flatten(4).flatten(2, 3)
        size = (self.grid.rows, self.grid.columns)
        if fine.shape[2:] != size:
            bigger = fine.shape[2] > size[0] or fine.shape[3] > size[1]
            fine = (
                functional.adaptive_avg_pool2d(fine, size)
                if bigger
                else functional.interpolate(fine, size, mode="bilinear", align_corners=False)
            )
        return fine.flatten(2).transpose(1, 2)


class _Layer(nn.Module):
    """One residual convolution over the cells, `[batch, hidden_size, rows, columns]`."""

    def __init__(self, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, hidden)
        self.conv, self.mix = nn.Conv2d(hidden, hidden, 3, padding=1), nn.Conv2d(hidden, hidden, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.dropout(self.mix(functional.gelu(self.conv(self.norm(x)))))
