"""A small network of convolutions in space and time."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from polymodal.core.options import sized
from polymodal.core.registry import register
from polymodal.core.types import length_mask
from polymodal.nn.encoders.base import Encoder, EncoderOptions
from polymodal.nn.encoders.pixels import channels_last, pack, to_unit, unpack


class Neighbours:
    """The frames before and after each of the packed frames, clip by clip; before the first and after the last frame of
    a clip is zero.
    """

    def __init__(self, real: Tensor) -> None:
        clip = torch.arange(len(real), device=real.device).unsqueeze(1).expand_as(real)[real]
        same = (clip[1:] == clip[:-1]).view(-1, 1, 1, 1)
        edge = torch.zeros(1, 1, 1, 1, dtype=torch.bool, device=real.device)
        self.has_before, self.has_after = torch.cat([edge, same]), torch.cat([same, edge])

    def stack(self, x: Tensor) -> Tensor:
        """`x [real, channels, height, width]` -> `[real, 3 * channels, height, width]`: before, at, and after."""
        before = x.roll(1, 0) * self.has_before.to(x.dtype)
        after = x.roll(-1, 0) * self.has_after.to(x.dtype)
        return torch.cat([before, x, after], dim=1)


class SpaceTimeConv(nn.Module):
    """A convolution over space and three frames, with batch norm.

    Frames lie packed, without padding between clips, so a 3 x k x k convolution is a k x k convolution in
    the plane whose input channels are those of the frame before, the frame and the frame after. Factorised, it is
    k x k in space, then 3 x 1 x 1 in time.
    """

    def __init__(self, before: int, after: int, side: int, stride: int, factorised: bool) -> None:
        super().__init__()
        self.space: nn.Module = nn.Identity()
        if factorised:
            self.space = nn.Sequential(
                nn.Conv2d(before, after, side, stride, side // 2, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(inplace=True),
            )
            self.time = nn.Conv2d(3 * after, after, 1, bias=False)
        else:
            self.time = nn.Conv2d(3 * before, after, side, stride, side // 2, bias=False)
        self.norm = nn.BatchNorm2d(after)

    def forward(self, x: Tensor, neighbours: Neighbours) -> Tensor:
        return self.norm(self.time(neighbours.stack(self.space(x))))


class Residual(nn.Module):
    """y = ReLU(F(x) + S x): two convolutions in space and time, and a 1 x 1 x 1 shortcut where the shape changes."""

    def __init__(self, before: int, after: int, stride: int, factorised: bool) -> None:
        super().__init__()
        self.first = SpaceTimeConv(before, after, 3, stride, factorised)
        self.second = SpaceTimeConv(after, after, 3, 1, factorised)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or before != after:
            self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: Tensor, neighbours: Neighbours) -> Tensor:
        y = self.second(torch.relu(self.first(x, neighbours)), neighbours)
        return torch.relu(y + self.shortcut(x))


@register
class CNN3D(Encoder):
    """Residual convolutions over space and time: full 3 x 3 x 3 kernels (Tran et al., "Learning Spatiotemporal Features
    with 3D Convolutional Networks", 2015) or factorised ones, space then time (Tran et al., "A Closer Look at
    Spatiotemporal Convolutions for Action Recognition", 2018).

    Space is strided early (4, then 2, 2) and averaged at the end; time is never strided, so each frame is a
    token. The plane between the two factors is as wide as the output, narrower than the paper's, which matches the
    parameters of a full kernel. Only real frames are computed: a clip ends in zeros wherever the batch ends, and
    batch norm counts real frames alone.
    """

    class Options(EncoderOptions):
        name: Literal["cnn3d"] = "cnn3d"
        channels: int = sized(16, 32, 64, ge=1)
        """Channels of the first stage; the second has twice, the third four times as many."""
        blocks: int = sized(1, 1, 2, ge=1, le=24)
        """Residual blocks in each of the three stages."""
        factorised: bool = True
        """Kernels in two steps, space then time: faster, and one activation more. False: full 3-D kernels."""
        dropout: float = Field(default=0.1, ge=0, lt=1)
        """Share of the last feature maps dropped in training."""

    modality: ClassVar[str] = "video"

    def __init__(self, options: Options, *, shape: dict[str, Any], width: int) -> None:
        super().__init__(options, shape=shape, width=width)
        sizes = [options.channels, 2 * options.channels, 4 * options.channels]
        self.stem = SpaceTimeConv(shape["channels"], sizes[0], 7, 4, options.factorised)
        self.stages = nn.ModuleList()
        before = sizes[0]
        for stage, after in enumerate(sizes):
            for block in range(options.blocks):
                stride = 2 if stage and not block else 1
                self.stages.append(Residual(before, after, stride, options.factorised))
                before = after
        self.dropout = nn.Dropout(options.dropout)
        self.width = before
        channels_last(self)

    def forward(self, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """`pixels [items, frames, 3, height, width]` uint8, `length [items]` -> `[items, frames, width]`."""
        real = length_mask(data["length"], data["pixels"].shape[1])
        neighbours = Neighbours(real)
        x = to_unit(pack(data["pixels"], real), self.stem.norm.weight.dtype)
        x = torch.relu(self.stem(x, neighbours))
        for block in self.stages:
            x = block(x, neighbours)
        return unpack(self.dropout(x.mean(dim=(2, 3))), real), real

    def times(self, data: dict[str, Tensor], length: int) -> Tensor:
        """The moments of the frames."""
        return data["times"]
