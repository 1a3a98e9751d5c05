"""A small CNN over the log-mel spectrogram."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from polymodal.core.options import sized_field
from polymodal.core.registry import register
from polymodal.core.types import length_mask
from polymodal.nn.encoders.base import Encoder
from polymodal.nn.encoders.frame_convolution import MelConvolutions, frame_times
from polymodal.nn.encoders.logmel import LogMel, LogMelOptions


@register
class AudioCNN(Encoder):
    """Stages of small convolutions over time and frequency (Kong et al., "PANNs: Large-Scale Pretrained Audio Neural
    Networks for Audio Pattern Recognition", 2020), with strides in place of the paper's pooling.

    A token covers 4 frames (80 ms in the smallest size, else 40 ms). The remaining mel bands are flattened with the
    channels, so that a token keeps frequency information. Each audio channel is an input channel of the first
    convolution. Normalization is within a frame, since padding would affect the statistics of a batch norm.
    """

    class Options(LogMelOptions):
        name: Literal["audio_cnn"] = "audio_cnn"
        channels: int = sized_field(32, 48, 64, ge=1)
        """Channels of the stem and the first stage; the second stage has 2 times, the third 4 times this number."""
        num_layers: int = sized_field(1, 2, 3, ge=1, le=12)
        """Number of convolutions per stage."""
        dropout: float = Field(default=0.1, ge=0, lt=1)
        """Dropout rate on the channels of the last feature map."""

    modality: ClassVar[str] = "audio"

    def __init__(self, options: Options, *, shape: dict[str, Any], width: int) -> None:
        super().__init__(options, shape=shape, width=width)
        self.width = width
        self.mel = LogMel(options, shape["rate"])
        self.convolutions = MelConvolutions(
            shape["channels"], options.n_mels, options.channels, options.num_layers, (2, 1, 2, 1)
        )
        self.dropout = nn.Dropout2d(options.dropout)
        self.project = nn.Linear(self.convolutions.width, width)

    def forward(self, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """`values [items, channels, samples]`, `length [items]` -> `[items, frames / 4, width]`."""
        mel, length = self.mel(data["values"], data["length"])
        x, length = self.convolutions(mel.to(self.project.weight.dtype), length, self.dropout)
        return self.project(x), length_mask(length, x.shape[1])

    def times(self, data: dict[str, Tensor], length: int) -> Tensor:
        """The time of the center frame of each token, in seconds."""
        return frame_times(data["length"], length, 0.0, self.convolutions.stride * self.mel.hop_seconds)
