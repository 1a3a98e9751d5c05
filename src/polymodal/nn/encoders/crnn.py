"""A convolutional recurrent network over the log-mel spectrogram."""

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
from polymodal.nn.encoders.recurrent import LSTMStack


@register
class CRNN(Encoder):
    """A convolutional network over the log-mel spectrogram and a bidirectional LSTM over its frames (Cakir et al.,
    "Convolutional Recurrent Neural Networks for Polyphonic Sound Event Detection", 2017).

        x = [mel bands and channels of each frame after the convolutions] ;  token_t = [LSTM(x)_t ; LSTM(reversed x)_t]

    A token covers 4 frames and depends on the frames before and after it. The paper uses gated recurrent units; LSTMs
    are used here, since CPUs compute them faster in bf16. The backward direction starts at the end of each item.
    """

    class Options(LogMelOptions):
        name: Literal["crnn"] = "crnn"
        channels: int = sized_field(24, 32, 48, ge=1)
        """Channels of the stem and the first stage; the second stage has 2 times, the third 4 times this number."""
        hidden_size: int = sized_field(64, 128, 256, ge=1)
        """Hidden size of the LSTM in each direction."""
        num_layers: int = sized_field(1, 1, 2, ge=1, le=8)
        """Number of recurrent layers."""
        dropout: float = Field(default=0.1, ge=0, lt=1)
        """Dropout rate on the channels of the last feature map and on the input of each recurrent layer."""

    modality: ClassVar[str] = "audio"

    def __init__(self, options: Options, *, shape: dict[str, Any], width: int) -> None:
        super().__init__(options, shape=shape, width=width)
        self.mel = LogMel(options, shape["rate"])
        self.convolutions = MelConvolutions(shape["channels"], options.n_mels, options.channels, 1, (2, 1, 2, 1))
        self.dropout = nn.Dropout2d(options.dropout)
        self.lstm = LSTMStack(self.convolutions.width, options.hidden_size, options.num_layers, options.dropout)
        self.width = self.lstm.width

    def forward(self, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """`values [items, channels, samples]`, `length [items]` -> `[items, frames / 4, 2 * hidden_size]`."""
        mel, length = self.mel(data["values"], data["length"])
        x, length = self.convolutions(mel.to(self.lstm.forward_layers[0].weight_ih_l0.dtype), length, self.dropout)
        x = self.lstm(x, length)  # [items, frames / 4, 2 * hidden_size]
        return x, length_mask(length, x.shape[1])

    def times(self, data: dict[str, Tensor], length: int) -> Tensor:
        """The time of the center frame of each token, in seconds."""
        return frame_times(data["length"], length, 0.0, self.convolutions.stride * self.mel.hop_seconds)
