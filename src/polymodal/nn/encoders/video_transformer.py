"""A video Transformer with divided space-time attention."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from polymodal.core.options import sized_field
from polymodal.core.registry import register
from polymodal.nn.encoders.base import Encoder, EncoderOptions
from polymodal.nn.encoders.pixels import patch_grid, scale_pixels
from polymodal.nn.encoders.position_embedding import PositionEmbedding, TimestampEmbedding, check_heads
from polymodal.nn.encoders.vit import patchify
from polymodal.nn.layers.attention import MultiHeadAttention
from polymodal.nn.layers.transformer import FeedForward
from polymodal.runtime.host_reads import can_read


class DividedAttentionBlock(nn.Module):
    """A pre-norm block of attention over time, attention over space, and a feed-forward layer:

        x' = x + TA(LN x) ;  x'' = x' + SA(LN x') ;  x''' = x'' + FFN(LN x'')

    In TA, a patch attends to the same spatial position at all steps; in SA, to all positions of the same step.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.time_norm, self.time = nn.LayerNorm(width), MultiHeadAttention(width, heads, dropout)
        self.space_norm, self.space = nn.LayerNorm(width), MultiHeadAttention(width, heads, dropout)
        self.feed_forward_norm, self.feed_forward = nn.LayerNorm(width), FeedForward(width, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`x [items, patches, steps, width]`, `mask [items * patches, steps]` bool, True = a real step."""
        shape = x.shape
        time_output = self.time(self.time_norm(x).flatten(0, 1), mask=mask)
        x = x + self.dropout(time_output.view(shape))
        space_output = self.space(self.space_norm(x).transpose(1, 2).flatten(0, 1))
        x = x + self.dropout(space_output.view(shape[0], shape[2], shape[1], shape[3]).transpose(1, 2))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))


@register
class VideoTransformer(Encoder):
    """Divided space-time attention (Bertasius et al., "Is Space-Time Attention All You Need for Video Understanding?",
    2021) over tubelets as in Arnab et al., "ViViT: A Video Vision Transformer", 2021.

        x_0 = W tubelet + P(row, column) + P(step) + m(times) ;  x_l = Block_l(x_{l-1}) ;  tokens = LN(x_L)

    A tubelet is a box of `patch_size` x `patch_size` pixels in `tubelet` frames; a step is all tubelets of the same
    frames. The last frame of a video is repeated to complete its last step.

    Raises:
        RecipeError: `patch_size` does not divide the frame size, or `num_heads` does not divide the hidden size.
    """

    class Options(EncoderOptions):
        name: Literal["video_transformer"] = "video_transformer"
        patch_size: int = sized_field(8, 16, 16, ge=1)
        """Height and width of a tubelet in pixels; it must divide the height and width of the frames."""
        tubelet: int = Field(default=2, ge=1, le=16)
        """Number of frames in a tubelet. More frames make the network faster and its time resolution coarser."""
        num_layers: int = sized_field(2, 6, 12, ge=1, le=48)
        """Number of blocks."""
        num_heads: int = sized_field(4, 4, 8, ge=1)
        """Number of attention heads; it must divide the hidden size."""
        tokens: Literal["steps", "boxes"] = "steps"
        """Output tokens: the mean of the tubelets of each step (`steps`), or all tubelets (`boxes`)."""
        dropout: float = Field(default=0.1, ge=0, lt=1)
        """Dropout rate."""

    modality: ClassVar[str] = "video"

    def __init__(self, options: Options, *, shape: dict[str, Any], width: int) -> None:
        super().__init__(options, shape=shape, width=width)
        check_heads(options.num_heads, width)
        patch = options.patch_size
        rows, columns = patch_grid(shape, patch, "a frame")
        self.width, self.patch, self.tubelet, self.tokens = width, patch, options.tubelet, options.tokens
        self.project = nn.Linear(options.tubelet * patch * patch * shape["channels"], width)
        self.space_positions = PositionEmbedding("sincos", rows * columns, width, grid=(rows, columns))
        self.step_positions = PositionEmbedding("sincos", -(-shape["frames"] // options.tubelet), width)
        self.timestamps = TimestampEmbedding(width)
        self.dropout = nn.Dropout(options.dropout)
        self.blocks = nn.ModuleList(
            DividedAttentionBlock(width, options.num_heads, options.dropout) for _ in range(options.num_layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """`pixels [items, frames, 3, height, width]` uint8, `times [items, frames]`, `length [items]` ->
        `[items, steps, width]`, or `[items, steps * boxes, width]` in order of steps.
        """
        step_frames = self._step_frames(data)
        items, steps, tubelet = step_frames.shape
        real = torch.arange(steps, device=step_frames.device) * tubelet < data["length"].unsqueeze(1)
        x = self.space_positions(
            self.project(self._tubelets(data["pixels"], step_frames))
        )  # [items * steps, boxes, width]
        x = x.view(items, steps, -1, self.width).transpose(1, 2)  # [items, boxes, steps, width]
        step_embedding = self.step_positions(self.timestamps(self._step_times(data, step_frames)))
        x = self.dropout(x + step_embedding.unsqueeze(1)).contiguous()
        boxes = x.shape[1]
        mask = real.repeat_interleave(boxes, dim=0)
        for block in self.blocks:
            x = block(x, mask)
        x = self.norm(x)
        if self.tokens == "steps":
            return x.mean(1), real
        return x.transpose(1, 2).flatten(1, 2), real.repeat_interleave(boxes, dim=1)

    def times(self, data: dict[str, Tensor], length: int) -> Tensor:
        """The mean time of the frames of each step, in seconds."""
        step_times = self._step_times(data, self._step_frames(data))
        return step_times.repeat_interleave(length // step_times.shape[1], dim=1)

    def _step_frames(self, data: dict[str, Tensor]) -> Tensor:
        """The frame indices of each step, `[items, steps, tubelet]`; after the end of an item, its last frame."""
        frames = data["pixels"].shape[1]
        steps = -(-frames // self.tubelet)
        position = torch.arange(steps * self.tubelet, device=data["length"].device)
        return torch.minimum(position, data["length"].unsqueeze(1) - 1).view(-1, steps, self.tubelet)

    def _step_times(self, data: dict[str, Tensor], step_frames: Tensor) -> Tensor:
        """The mean time of the frames of each step, `[items, steps]` fp32."""
        return data["times"].float().gather(1, step_frames.flatten(1)).view(step_frames.shape).mean(-1)

    def _tubelets(self, pixels: Tensor, step_frames: Tensor) -> Tensor:
        """Pixels of each tubelet, `[items * steps, boxes, tubelet * patch * patch * 3]`, scaled to [-1, 1]; boxes in
        row-major order."""
        items, steps, tubelet = step_frames.shape
        length = pixels.shape[1]
        frames = pixels.permute(0, 1, 3, 4, 2).flatten(0, 1)
        some_are_shorter = not can_read(step_frames) or bool((step_frames[:, -1, -1] < length - 1).any())
        if steps * tubelet != length or some_are_shorter:
            first = length * torch.arange(items, device=step_frames.device).view(-1, 1, 1)
            frames = frames.index_select(0, (first + step_frames).flatten())
        patches = patchify(frames.permute(0, 3, 1, 2), self.patch)
        boxes = patches.view(items * steps, tubelet, patches.shape[1], -1).transpose(1, 2).flatten(2)
        return scale_pixels(boxes, self.project.weight.dtype)
