"""A Transformer over space and time."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from polymodal.core.options import sized
from polymodal.core.registry import register
from polymodal.nn.encoders.base import Encoder, EncoderOptions
from polymodal.nn.encoders.pixels import patch_grid, to_unit
from polymodal.nn.encoders.positions import Moments, Positions, check_heads
from polymodal.nn.encoders.vit import patchify
from polymodal.nn.layers.attention import MultiHeadAttention
from polymodal.nn.layers.transformer import FeedForward


class DividedBlock(nn.Module):
    """Attention in time, attention in space, feed-forward, normalisation first:

        x' = x + TA(LN x) ;  x'' = x' + SA(LN x') ;  x''' = x'' + FFN(LN x'')

    TA lets a patch read the same place at all moments of its clip, SA the other places of its moment.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.time_norm, self.time = nn.LayerNorm(width), MultiHeadAttention(width, heads, dropout)
        self.space_norm, self.space = nn.LayerNorm(width), MultiHeadAttention(width, heads, dropout)
        self.feed_norm, self.feed = nn.LayerNorm(width), FeedForward(width, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`x [items, patches, steps, width]`, `mask [items * patches, steps]` bool, True = a real step."""
        shape = x.shape
        along = self.time(self.time_norm(x).flatten(0, 1), mask=mask)
        x = x + self.dropout(along.view(shape))
        across = self.space(self.space_norm(x).transpose(1, 2).flatten(0, 1))
        x = x + self.dropout(across.view(shape[0], shape[2], shape[1], shape[3]).transpose(1, 2))
        return x + self.dropout(self.feed(self.feed_norm(x)))


@register
class SpaceTime(Encoder):
    """Divided attention over boxes of pixels (Bertasius et al., "Is Space-Time Attention All You Need for Video
    Understanding?", 2021), cut as in Arnab et al., "ViViT: A Video Vision Transformer", 2021.

        x_0 = W box + P(row, column) + P(step) + m(times) ;  x_l = Block_l(x_{l-1}) ;  tokens = LN(x_L)

    A box is `patch` x `patch` pixels of `tubelet` frames; a step is a layer of boxes. A clip's last frame is
    repeated where its last step is not full.

    Raises:
        RecipeError: `patch` does not divide the frames, or `heads` not the common width.
    """

    class Options(EncoderOptions):
        name: Literal["space_time"] = "space_time"
        patch: int = sized(8, 16, 16, ge=1)
        """Height and width of a box in pixels; it must divide those of the frames."""
        tubelet: int = Field(default=2, ge=1, le=16)
        """Frames in a box: more make the network faster and its moments coarser."""
        layers: int = sized(2, 6, 12, ge=1, le=48)
        """Number of blocks."""
        heads: int = sized(4, 4, 8, ge=1)
        """Attention heads; they must divide the common width."""
        tokens: Literal["steps", "boxes"] = "steps"
        """What the fusion sees: for each step the mean of its boxes, or every box."""
        dropout: float = Field(default=0.1, ge=0, lt=1)
        """Share of units dropped in training."""

    modality: ClassVar[str] = "video"

    def __init__(self, options: Options, *, shape: dict[str, Any], width: int) -> None:
        super().__init__(options, shape=shape, width=width)
        check_heads(options.heads, width)
        patch = options.patch
        rows, columns = patch_grid(shape, patch, "a frame")
        self.width, self.patch, self.tubelet, self.tokens = width, patch, options.tubelet, options.tokens
        self.project = nn.Linear(options.tubelet * patch * patch * shape["channels"], width)
        self.places = Positions("sincos", rows * columns, width, grid=(rows, columns))
        self.steps = Positions("sincos", -(-shape["frames"] // options.tubelet), width)
        self.moments = Moments(width)
        self.dropout = nn.Dropout(options.dropout)
        self.blocks = nn.ModuleList(DividedBlock(width, options.heads, options.dropout) for _ in range(options.layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """`pixels [items, frames, 3, height, width]` uint8, `times [items, frames]`, `length [items]` -> `[items,
        steps, width]`, or `[items, steps * boxes, width]`, step by step.
        """
        whole = self._whole_steps(data)
        items, steps, tubelet = whole.shape
        real = torch.arange(steps, device=whole.device) * tubelet < data["length"].unsqueeze(1)
        x = self.places(self.project(self._boxes(data["pixels"], whole)))  # [items * steps, boxes, width]
        x = x.view(items, steps, -1, self.width).transpose(1, 2)
        moments = self.steps(self.moments(self._middles(data, whole)))
        x = self.dropout(x + moments.unsqueeze(1)).contiguous()
        boxes = x.shape[1]
        mask = real.repeat_interleave(boxes, dim=0)
        for block in self.blocks:
            x = block(x, mask)
        x = self.norm(x)
        if self.tokens == "steps":
            return x.mean(1), real
        return x.transpose(1, 2).flatten(1, 2), real.repeat_interleave(boxes, dim=1)

    def times(self, data: dict[str, Tensor], length: int) -> Tensor:
        """The middle of each step's frames."""
        middles = self._middles(data, self._whole_steps(data))
        return middles.repeat_interleave(length // middles.shape[1], dim=1)

    def _whole_steps(self, data: dict[str, Tensor]) -> Tensor:
        """The frames of each step, `[items, steps, tubelet]`; beyond an item's end its last frame."""
        frames = data["pixels"].shape[1]
        steps = -(-frames // self.tubelet)
        place = torch.arange(steps * self.tubelet, device=data["length"].device)
        return torch.minimum(place, data["length"].unsqueeze(1) - 1).view(-1, steps, self.tubelet)

    def _middles(self, data: dict[str, Tensor], whole: Tensor) -> Tensor:
        """The mean moment of each step's frames, `[items, steps]` fp32."""
        return data["times"].float().gather(1, whole.flatten(1)).view(whole.shape).mean(-1)

    def _boxes(self, pixels: Tensor, whole: Tensor) -> Tensor:
        """`[items * steps, boxes, tubelet * patch * patch * 3]` numbers from -1 to 1; boxes row by row."""
        items, steps, tubelet = whole.shape
        length = pixels.shape[1]
        frames = pixels.permute(0, 1, 3, 4, 2).flatten(0, 1)
        if steps * tubelet != length or bool((whole[:, -1, -1] < length - 1).any()):
            first = length * torch.arange(items, device=whole.device).view(-1, 1, 1)
            frames = frames.index_select(0, (first + whole).flatten())
        patches = patchify(frames.permute(0, 3, 1, 2), self.patch)
        boxes = patches.view(items * steps, tubelet, patches.shape[1], -1).transpose(1, 2).flatten(2)
        return to_unit(boxes, self.project.weight.dtype)
