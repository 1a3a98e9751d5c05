"""A small residual network of 3-D convolutions for video."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from polymodal.core.options import sized_field
from polymodal.core.registry import register
from polymodal.core.types import length_mask
from polymodal.nn.encoders.base import Encoder, EncoderOptions
from polymodal.nn.encoders.pixels import channels_last, pack_frames, scale_pixels, unpack_frames


class AdjacentFrames:
    """The previous and the next frame of each packed frame; zeros before the first and after the last frame of a
    video."""

    def __init__(self, real: Tensor) -> None:
        video = torch.arange(len(real), device=real.device).unsqueeze(1).expand_as(real)[real]
        same = (video[1:] == video[:-1]).view(-1, 1, 1, 1)
        no_frame = torch.zeros(1, 1, 1, 1, dtype=torch.bool, device=real.device)
        self.has_before, self.has_after = torch.cat([no_frame, same]), torch.cat([same, no_frame])

    def stack(self, x: Tensor) -> Tensor:
        """`x [real, channels, height, width]` -> `[real, 3 * channels, height, width]`: previous, current, next."""
        before = x.roll(1, 0) * self.has_before.to(x.dtype)
        after = x.roll(-1, 0) * self.has_after.to(x.dtype)
        return torch.cat([before, x, after], dim=1)


class SpaceTimeConv(nn.Module):
    """A convolution over space and three frames, with batch norm.

    Frames are packed without padding between videos, so a 3 x k x k convolution is a k x k convolution whose input
    channels are those of the previous, the current and the next frame. Factorized, it is a k x k convolution in space,
    then a 3 x 1 x 1 convolution in time.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int, factorized: bool) -> None:
        super().__init__()
        self.space: nn.Module = nn.Identity()
        if factorized:
            self.space = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False),
                nn.BatchNorm2d(out_channels),
                nn.ReLU(inplace=True),
            )
            self.time = nn.Conv2d(3 * out_channels, out_channels, 1, bias=False)
        else:
            self.time = nn.Conv2d(3 * in_channels, out_channels, kernel, stride, kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor, adjacent: AdjacentFrames) -> Tensor:
        return self.norm(self.time(adjacent.stack(self.space(x))))


class ResidualBlock3D(nn.Module):
    """y = ReLU(F(x) + S x): two convolutions in space and time; S is a 1 x 1 x 1 convolution if the shape changes."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, factorized: bool) -> None:
        super().__init__()
        self.first = SpaceTimeConv(in_channels, out_channels, 3, stride, factorized)
        self.second = SpaceTimeConv(out_channels, out_channels, 3, 1, factorized)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor, adjacent: AdjacentFrames) -> Tensor:
        y = self.second(torch.relu(self.first(x, adjacent)), adjacent)
        return torch.relu(y + self.shortcut(x))


@register
class CNN3D(Encoder):
    """Residual convolutions over space and time: full 3 x 3 x 3 kernels (Tran et al., "Learning Spatiotemporal Features
    with 3D Convolutional Networks", 2015) or factorized kernels, space then time (Tran et al., "A Closer Look at
    Spatiotemporal Convolutions for Action Recognition", 2018).

    Space has strides of 4, 2 and 2 and is averaged at the end. Time has no stride, so each frame gives one token.
    Between the two factors there are as many channels as in the output, fewer than in the paper, which matches the
    number of parameters of a full kernel. Only real frames are computed: padding does not depend on the batch, and
    batch norm statistics cover real frames only.
    """

    class Options(EncoderOptions):
        name: Literal["cnn3d"] = "cnn3d"
        channels: int = sized_field(16, 32, 64, ge=1)
        """Channels of the first stage; the second stage has 2 times, the third 4 times this number."""
        num_blocks: int = sized_field(1, 1, 2, ge=1, le=24)
        """Number of residual blocks in each of the three stages."""
        factorized: bool = True
        """Factorize kernels into space and time (R(2+1)D): faster, with one more activation. False: full 3-D
        kernels."""
        dropout: float = Field(default=0.1, ge=0, lt=1)
        """Dropout rate on the last features."""

    modality: ClassVar[str] = "video"

    def __init__(self, options: Options, *, shape: dict[str, Any], width: int) -> None:
        super().__init__(options, shape=shape, width=width)
        sizes = [options.channels, 2 * options.channels, 4 * options.channels]
        self.stem = SpaceTimeConv(shape["channels"], sizes[0], 7, 4, options.factorized)
        self.stages = nn.ModuleList()
        in_channels = sizes[0]
        for stage, out_channels in enumerate(sizes):
            for block in range(options.num_blocks):
                stride = 2 if stage and not block else 1
                self.stages.append(ResidualBlock3D(in_channels, out_channels, stride, options.factorized))
                in_channels = out_channels
        self.dropout = nn.Dropout(options.dropout)
        self.width = in_channels
        channels_last(self)

    def forward(self, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """`pixels [items, frames, 3, height, width]` uint8, `length [items]` -> `[items, frames, width]`."""
        real = length_mask(data["length"], data["pixels"].shape[1])
        adjacent = AdjacentFrames(real)
        x = scale_pixels(pack_frames(data["pixels"], real), self.stem.norm.weight.dtype)  # [real, 3, height, width]
        x = torch.relu(self.stem(x, adjacent))  # [real, channels, height / 4, width / 4]
        for block in self.stages:
            x = block(x, adjacent)
        return unpack_frames(self.dropout(x.mean(dim=(2, 3))), real), real

    def times(self, data: dict[str, Tensor], length: int) -> Tensor:
        """The time of each frame in seconds."""
        return data["times"]
