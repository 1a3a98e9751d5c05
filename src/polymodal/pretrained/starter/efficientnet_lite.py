"""EfficientNet-lite as a transformers model; transformers has EfficientNet, but not the lite variant."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPoolingAndNoAttention

#: Stages of lite0: repeats, kernel, stride, expansion, channels (Tan and Le, 2019, table 1; the same for B0 and lite0).
LITE0 = [
    [1, 3, 1, 1, 16],
    [2, 3, 2, 6, 24],
    [2, 5, 2, 6, 40],
    [3, 3, 2, 6, 80],
    [3, 5, 1, 6, 112],
    [4, 5, 2, 6, 192],
    [1, 3, 1, 6, 320],
]


class EfficientNetLiteConfig(PreTrainedConfig):  # type: ignore[no-untyped-call]
    """Configuration of an EfficientNet-lite.

    stages: [repeats, kernel, stride, expansion, channels] of each stage
    stem, hidden_size: channels of the first and of the last convolution
    """

    model_type = "efficientnet_lite"

    def __init__(
        self,
        stages: list[list[int]] | None = None,
        stem: int = 32,
        hidden_size: int = 1280,
        image_size: int = 224,
        norm_eps: float = 1e-3,
        norm_momentum: float = 0.01,
        **others: Any,
    ) -> None:
        self.stages = stages or LITE0
        self.stem, self.hidden_size, self.image_size = stem, hidden_size, image_size
        self.norm_eps, self.norm_momentum = norm_eps, norm_momentum
        super().__init__(**others)

    @property
    def num_hidden_layers(self) -> int:
        """Number of blocks."""
        return sum(stage[0] for stage in self.stages)


class SamePadConv2d(nn.Conv2d):
    """A convolution with TensorFlow's "same" padding: the output has `ceil(size / stride)` pixels; if the padding is
    odd, the extra pixel is at the right and the bottom."""

    def forward(self, images: Tensor) -> Tensor:
        return self._convolve(images, self.weight, self.bias)

    def normalized(self, images: Tensor, norm: nn.BatchNorm2d) -> Tensor:
        """The convolution and the batch normalization after it. With the statistics of training, the normalization is
        a factor of the kernels and a bias, so that the pixels are passed over once."""
        if norm.training or norm.running_mean is None or norm.running_var is None:
            return norm(self(images))
        factor = norm.weight * (norm.running_var + norm.eps).rsqrt()
        return self._convolve(images, self.weight * factor[:, None, None, None], norm.bias - norm.running_mean * factor)

    def _convolve(self, images: Tensor, kernels: Tensor, bias: Tensor | None) -> Tensor:
        pads: list[int] = []
        for axis in (2, 3):
            size, kernel, stride = images.shape[axis], self.kernel_size[axis - 2], self.stride[axis - 2]
            pads.append(max((-(-size // stride) - 1) * stride + kernel - size, 0))
        around = [pad // 2 for pad in pads]
        if any(pad % 2 for pad in pads):  # the convolution itself pads both sides alike
            low, high = around[::-1], [pad - pad // 2 for pad in reversed(pads)]
            images, around = functional.pad(images, [low[0], high[0], low[1], high[1]]), [0, 0]
        return functional.conv2d(images, kernels, bias, self.stride, around, self.dilation, self.groups)


class InvertedResidual(nn.Module):
    """An inverted residual block: 1 x 1 expansion, depthwise convolution, 1 x 1 projection, and a residual connection
    if the shapes are equal. ReLU6 after the first two; the lite variant has no squeeze-and-excitation."""

    def __init__(
        self,
        config: EfficientNetLiteConfig,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int,
        expansion: int,
    ):
        super().__init__()
        expanded = in_channels * expansion
        self.has_expansion, self.has_residual = expansion != 1, stride == 1 and in_channels == out_channels
        if self.has_expansion:
            self.expand, self.expand_norm = SamePadConv2d(in_channels, expanded, 1, bias=False), _norm(config, expanded)
        self.depthwise = SamePadConv2d(expanded, expanded, kernel, stride=stride, groups=expanded, bias=False)
        self.depthwise_norm = _norm(config, expanded)
        self.project, self.project_norm = (
            SamePadConv2d(expanded, out_channels, 1, bias=False),
            _norm(config, out_channels),
        )

    def forward(self, images: Tensor) -> Tensor:
        hidden = images
        if self.has_expansion:
            hidden = functional.relu6(self.expand.normalized(hidden, self.expand_norm), inplace=True)
        hidden = functional.relu6(self.depthwise.normalized(hidden, self.depthwise_norm), inplace=True)
        hidden = self.project.normalized(hidden, self.project_norm)
        return images + hidden if self.has_residual else hidden


class EfficientNetLiteModel(PreTrainedModel):  # type: ignore[no-untyped-call]
    """EfficientNet-lite (Mingxing Tan, Quoc Le: EfficientNet: Rethinking Model Scaling for Convolutional Neural
    Networks, 2019; the lite variant by the same authors, 2020: ReLU6 instead of swish, no squeeze-and-excitation, stem
    and head of the same width for all sizes).

    `pixel_values [n, 3, height, width]` -> `last_hidden_state [n, 1280, height / 32, width / 32]`, and its mean over
    positions, `pooler_output [n, 1280]`.
    """

    config_class = EfficientNetLiteConfig
    base_model_prefix = "efficientnet_lite"
    main_input_name = "pixel_values"

    def __init__(self, config: EfficientNetLiteConfig) -> None:
        super().__init__(config)
        self.stem, self.stem_norm = SamePadConv2d(3, config.stem, 3, stride=2, bias=False), _norm(config, config.stem)
        self.blocks = nn.ModuleList()
        in_channels = config.stem
        for repeats, kernel, stride, expansion, out_channels in config.stages:
            for repeat in range(repeats):
                self.blocks.append(
                    InvertedResidual(config, in_channels, out_channels, kernel, stride if repeat == 0 else 1, expansion)
                )
                in_channels = out_channels
        self.head, self.head_norm = (
            SamePadConv2d(in_channels, config.hidden_size, 1, bias=False),
            _norm(config, config.hidden_size),
        )
        self.post_init()  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()

    def forward(
        self, pixel_values: Tensor, output_hidden_states: bool | None = None, **others: Any
    ) -> BaseModelOutputWithPoolingAndNoAttention:
        pixels = pixel_values.contiguous(memory_format=torch.channels_last)  # the order in which convolutions are fast
        features = functional.relu6(self.stem.normalized(pixels, self.stem_norm), inplace=True)
        states = [features]
        for block in self.blocks:
            features = block(features)
            states.append(features)
        last = functional.relu6(self.head.normalized(features, self.head_norm), inplace=True)
        return BaseModelOutputWithPoolingAndNoAttention(
            last_hidden_state=last,
            pooler_output=last.mean((2, 3)),
            hidden_states=tuple(states) if output_hidden_states else None,
        )


def register_own_models() -> None:
    """Register the models of this module with `AutoConfig` and `AutoModel`."""
    AutoConfig.register("efficientnet_lite", EfficientNetLiteConfig, exist_ok=True)
    AutoModel.register(EfficientNetLiteConfig, EfficientNetLiteModel, exist_ok=True)


def _norm(config: EfficientNetLiteConfig, in_channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(in_channels, eps=config.norm_eps, momentum=config.norm_momentum)
