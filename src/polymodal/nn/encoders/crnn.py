"""Convolutions, then a recurrent network."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from polymodal.core.options import sized
from polymodal.core.registry import register
from polymodal.core.types import length_mask
from polymodal.nn.encoders.base import Encoder
from polymodal.nn.encoders.frames import MelConvolutions, frame_times
from polymodal.nn.encoders.logmel import LogMel, LogMelOptions
from polymodal.nn.encoders.recurrent import LSTMStack


@register
class CRNN(Encoder):
    """A convolutional network over the log-mel spectrogram and a bidirectional LSTM over its frames (Cakir et al.,
    "Convolutional Recurrent Neural Networks for Polyphonic Sound Event Detection", 2017).

        x = [bands and channels of each frame left by the convolutions] ;  token_t = [LSTM(x)_t ; LSTM(reversed x)_t]

    A token stands for 4 frames and knows what came before and after it. The paper's gated recurrent units are LSTMs
    here, which processors compute faster in bf16. The backward pass starts at each clip's own end.
    """

    class Options(LogMelOptions):
        name: Literal["crnn"] = "crnn"
        channels: int = sized(24, 32, 48, ge=1)
        """Channels of the stem and the first stage; the second has twice, the third four times as many."""
        hidden: int = sized(64, 128, 256, ge=1)
        """Width of the state in each direction."""
        layers: int = sized(1, 1, 2, ge=1, le=8)
        """Recurrent layers on top of each other."""
        dropout: float = Field(default=0.1, ge=0, lt=1)
        """Share of the last feature maps, and of the units before each recurrent layer, dropped in training."""

    modality: ClassVar[str] = "audio"

    def __init__(self, options: Options, *, shape: dict[str, Any], width: int) -> None:
        super().__init__(options, shape=shape, width=width)
        self.mel = LogMel(options, shape["rate"])
        self.convolutions = MelConvolutions(shape["channels"], options.mels, options.channels, 1, (2, 1, 2, 1))
        self.maps = nn.Dropout2d(options.dropout)
        self.frames = LSTMStack(self.convolutions.width, options.hidden, options.layers, options.dropout)
        self.width = self.frames.width

    def forward(self, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """`values [items, channels, samples]`, `length [items]` -> `[items, frames / 4, 2 * hidden]`."""
        mel, length = self.mel(data["values"], data["length"])
        x, length = self.convolutions(mel.to(self.frames.ahead[0].weight_ih_l0.dtype), length, self.maps)
        x = self.frames(x, length)
        return x, length_mask(length, x.shape[1])

    def times(self, data: dict[str, Tensor], length: int) -> Tensor:
        """The frames at the middle of each token, in seconds."""
        return frame_times(data["length"], length, 0.0, self.convolutions.stride * self.mel.seconds)
