"""A small residual network (ResNet) for images."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from polymodal.core.options import sized_field
from polymodal.core.registry import register
from polymodal.nn.encoders.base import Encoder, EncoderOptions
from polymodal.nn.encoders.pixels import channels_last, scale_pixels
from polymodal.nn.encoders.position_embedding import PositionEmbedding
from polymodal.nn.encoders.token_pooling import all_valid_mask


class ResidualBlock(nn.Module):
    """y = ReLU(F(x) + S x): two 3 x 3 convolutions with batch norm; the shortcut S is a 1 x 1 convolution if the shape
    changes, else the identity.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


@register
class ResNet(Encoder):
    """Three residual stages after a strided stem (He et al., "Deep Residual Learning for Image Recognition", 2016).

    The stem has a stride of 4, the second and the third stage of 2, so a token covers 16 x 16 pixels: the output is
    `[items, height / 16 * width / 16, width]`, 4 x 4 tokens for 64 pixels. Learned position embeddings are added.
    """

    class Options(EncoderOptions):
        name: Literal["resnet"] = "resnet"
        channels: int = sized_field(32, 48, 96, ge=1)
        """Channels of the first stage; the second stage has 2 times, the third 4 times this number."""
        num_blocks: int = sized_field(1, 2, 3, ge=1, le=24)
        """Number of residual blocks per stage."""
        dropout: float = Field(default=0.0, ge=0, lt=1)
        """Dropout rate on the channels of the last feature map."""

    modality: ClassVar[str] = "image"

    def __init__(self, options: Options, *, shape: dict[str, Any], width: int) -> None:
        super().__init__(options, shape=shape, width=width)
        self.width = width
        sizes = [options.channels, 2 * options.channels, 4 * options.channels]
        self.stem = nn.Sequential(
            nn.Conv2d(shape["channels"], sizes[0], 7, 4, 3, bias=False),
            nn.BatchNorm2d(sizes[0]),
            nn.ReLU(inplace=True),
        )
        stages: list[nn.Module] = []
        in_channels = sizes[0]
        for stage, out_channels in enumerate(sizes):
            for block in range(options.num_blocks):
                stages.append(ResidualBlock(in_channels, out_channels, 2 if stage and not block else 1))
                in_channels = out_channels
        self.stages = nn.Sequential(*stages)
        self.dropout = nn.Dropout2d(options.dropout)
        self.project = nn.Linear(in_channels, width)
        rows, columns = (-(-shape[side] // 16) for side in ("height", "width"))
        self.grid = (rows, columns)
        self.positions = PositionEmbedding("learned", rows * columns, width)
        channels_last(self)

    def forward(self, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """`pixels [items, 3, height, width]` uint8 -> `[items, rows * columns, width]`."""
        x = scale_pixels(data["pixels"], self.project.weight.dtype)
        x = self.dropout(self.stages(self.stem(x)))  # [items, channels, height / 16, width / 16]
        tokens = self.positions(self.project(x.flatten(2).transpose(1, 2)))  # [items, rows * columns, width]
        return tokens, all_valid_mask(tokens)

    def token_grid(self, length: int) -> tuple[int, int]:
        """The rows and columns of the last feature map."""
        return self.grid
