"""VGG-16 for images."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from polymodal.core.errors import RecipeError
from polymodal.core.options import sized_field
from polymodal.core.registry import register
from polymodal.nn.encoders.base import Encoder, EncoderOptions
from polymodal.nn.encoders.pixels import channels_last, scale_pixels
from polymodal.nn.encoders.token_pooling import all_valid_mask

# Channels of the 13 convolutions, in five groups; each group ends with a max pooling.
GROUPS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
DENSE_WIDTH = 4096


@register
class VGG16(Encoder):
    """Configuration D of Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
    Recognition" (2015), with batch norm after each convolution (Ioffe and Szegedy, 2015).

    13 convolutions of 3 x 3 in five groups, each followed by 2 x 2 max pooling, then two dense layers on the feature
    map (average-pooled to 7 x 7 if it is larger). The third dense layer of the original is the classifier, which is
    the decoder here. It gives one token per image, with `4096 * width_multiplier` features.

    Raises:
        RecipeError: the image is smaller than 32 x 32 pixels, too small for five poolings.
    """

    class Options(EncoderOptions):
        name: Literal["vgg16"] = "vgg16"
        width_multiplier: float = sized_field(0.125, 0.25, 1.0, gt=0, le=1)
        """Width of every layer relative to VGG-16; 1 is the original (134 million parameters)."""
        dropout: float = Field(default=0.5, ge=0, lt=1)
        """Dropout rate after each dense layer."""

    modality: ClassVar[str] = "image"

    def __init__(self, options: Options, *, shape: dict[str, Any], width: int) -> None:
        super().__init__(options, shape=shape, width=width)
        if min(shape["height"], shape["width"]) < 32:
            raise RecipeError(
                "name", f"vgg16 needs images of 32 pixels or more, not {shape['height']} x {shape['width']}"
            )
        convolutions: list[nn.Module] = []
        in_channels = shape["channels"]
        for group in GROUPS:
            for channels in group:
                out_channels = max(1, round(channels * options.width_multiplier))
                convolutions += [
                    nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
                    nn.BatchNorm2d(out_channels),
                    nn.ReLU(inplace=True),
                ]
                in_channels = out_channels
            convolutions.append(nn.MaxPool2d(2))
        self.convolutions = nn.Sequential(*convolutions)
        rows, columns = (min(7, shape[side] // 32) for side in ("height", "width"))
        self.pool = nn.AdaptiveAvgPool2d((rows, columns))
        self.width = max(1, round(DENSE_WIDTH * options.width_multiplier))
        self.dense = nn.Sequential(
            nn.Linear(in_channels * rows * columns, self.width),
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
        maps = self.pool(
            self.convolutions(scale_pixels(data["pixels"], weight.dtype))
        )  # [items, channels, rows, columns]
        token = self.dense(maps.flatten(1)).unsqueeze(1)
        return token, all_valid_mask(token)
