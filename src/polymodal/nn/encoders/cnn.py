"""A small residual network."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from polymodal.core.options import sized
from polymodal.core.registry import register
from polymodal.nn.encoders.base import Encoder, EncoderOptions
from polymodal.nn.encoders.pixels import channels_last, to_unit
from polymodal.nn.encoders.positions import Positions
from polymodal.nn.encoders.tokens import all_real


class Residual(nn.Module):
    """y = ReLU(F(x) + S x): two 3 x 3 convolutions with batch norm, and a 1 x 1 shortcut where the shape
    changes.
    """

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, 1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(inplace=True),
            nn.Conv2d(after, after, 3, 1, 1, bias=False),
            nn.BatchNorm2d(after),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or before != after:
            self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


@register
class ResNet(Encoder):
    """Three residual stages behind a strided stem (He et al., "Deep Residual Learning for Image
    Recognition", 2016).

    The stem takes every fourth pixel, the second and third stage halve again, so a token stands for 16 x 16
    pixels: `[items, height/16 * width/16, width]`, 4 x 4 tokens for 64 pixels, with learned positions
    added.
    """

    class Options(EncoderOptions):
        name: Literal["resnet"] = "resnet"
        channels: int = sized(32, 48, 96, ge=1)
        """Channels of the first stage; the second has twice, the third four times as many."""
        blocks: int = sized(1, 2, 3, ge=1, le=24)
        """Residual blocks in each stage."""
        dropout: float = Field(default=0.0, ge=0, lt=1)
        """Share of the last feature maps dropped in training."""

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
        before = sizes[0]
        for stage, after in enumerate(sizes):
            for block in range(options.blocks):
                stages.append(Residual(before, after, 2 if stage and not block else 1))
                before = after
        self.stages = nn.Sequential(*stages)
        self.dropout = nn.Dropout2d(options.dropout)
        self.project = nn.Linear(before, width)
        rows, columns = (-(-shape[side] // 16) for side in ("height", "width"))
        self.positions = Positions("learned", rows * columns, width)
        channels_last(self)

    def forward(self, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """`pixels [items, 3, height, width]` uint8 -> `[items, rows * columns, width]`."""
        x = to_unit(data["pixels"], self.project.weight.dtype)
        x = self.dropout(self.stages(self.stem(x)))
        tokens = self.positions(self.project(x.flatten(2).transpose(1, 2)))
        return tokens, all_real(tokens)
