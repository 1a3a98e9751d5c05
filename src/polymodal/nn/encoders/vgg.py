"""VGG-16."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from polymodal.core.errors import RecipeError
from polymodal.core.options import sized
from polymodal.core.registry import register
from polymodal.nn.encoders.base import Encoder, EncoderOptions
from polymodal.nn.encoders.pixels import channels_last, to_unit
from polymodal.nn.encoders.tokens import all_real

# Channels of the 13 convolutions, in five groups; a halving of the image ends each group.
GROUPS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
DENSE = 4096


@register
class VGG16(Encoder):
    """Configuration D of Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
    Recognition" (2015), with batch norm after each convolution (Ioffe and Szegedy, 2015).

    13 convolutions of 3 x 3 in five groups, each group ended by 2 x 2 max pooling, then the feature map
    (averaged down to 7 x 7 where it is larger) goes through two dense layers; the third dense layer of the
    original chooses a class, which is the decoder's work here. One token per image, of width `4096 *
    scale`.

    Raises:
        RecipeError: the image is smaller than 32 x 32 pixels: five halvings would leave nothing.
    """

    class Options(EncoderOptions):
        name: Literal["vgg16"] = "vgg16"
        scale: float = sized(0.125, 0.25, 1.0, gt=0, le=1)
        """Width of every layer as a share of the original's; 1 is VGG-16 itself (134 million parameters)."""
        dropout: float = Field(default=0.5, ge=0, lt=1)
        """Share of units dropped in training after each dense layer."""

    modality: ClassVar[str] = "image"

    def __init__(self, options: Options, *, shape: dict[str, Any], width: int) -> None:
        super().__init__(options, shape=shape, width=width)
        if min(shape["height"], shape["width"]) < 32:
            raise RecipeError(
                "name", f"vgg16 needs images of 32 pixels or more, not {shape['height']} x {shape['width']}"
            )
        convolutions: list[nn.Module] = []
        before = shape["channels"]
        for group in GROUPS:
            for channels in group:
                after = max(1, round(channels * options.scale))
                convolutions += [
                    nn.Conv2d(before, after, 3, padding=1, bias=False),
                    nn.BatchNorm2d(after),
                    nn.ReLU(inplace=True),
                ]
                before = after
            convolutions.append(nn.MaxPool2d(2))
        self.convolutions = nn.Sequential(*convolutions)
        rows, columns = (min(7, shape[side] // 32) for side in ("height", "width"))
        self.pool = nn.AdaptiveAvgPool2d((rows, columns))
        self.width = max(1, round(DENSE * options.scale))
        self.dense = nn.Sequential(
            nn.Linear(before * rows * columns, self.width),
            nn.ReLU(inplace=True),
            nn.Dropout(options.dropout),
            nn.Linear(self.width, self.width),
            nn.ReLU(inplace=True),
            nn.Dropout(options.dropout),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        channels_last(self)

    def forward(self, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """`pixels [items, 3, height, width]` uint8 -> `[items, 1, width]`."""
        weight = self.dense[0].weight
        assert isinstance(weight, Tensor)
        maps = self.pool(self.convolutions(to_unit(data["pixels"], weight.dtype)))
        token = self.dense(maps.flatten(1)).unsqueeze(1)
        return token, all_real(token)
