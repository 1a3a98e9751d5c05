"""An LSTM encoder of time series."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from polymodal.core.options import sized_field
from polymodal.core.registry import register
from polymodal.core.types import length_mask
from polymodal.nn.encoders.base import Encoder, EncoderOptions
from polymodal.nn.encoders.recurrent import LSTMStack
from polymodal.nn.encoders.step_pooling import pool_steps, step_features, window_size, window_times


@register
class SeriesLSTM(Encoder):
    """An LSTM over the time steps (Hochreiter and Schmidhuber, "Long Short-Term Memory", 1997), optionally in both
    directions (Schuster and Paliwal, "Bidirectional Recurrent Neural Networks", 1997).

        x_t = W [values_t; observed_t] + b ;  h_t = [forward state; backward state]

    The backward direction starts at the last step of each series, so padding does not affect real steps. A token is the
    mean of the states of neighboring steps.
    """

    class Options(EncoderOptions):
        name: Literal["series_lstm"] = "series_lstm"
        hidden_size: int = sized_field(64, 128, 256, ge=1)
        """Hidden size of the LSTM in each direction."""
        num_layers: int = sized_field(1, 2, 2, ge=1, le=8)
        """Number of layers."""
        bidirectional: bool = True
        """Read the series in both directions."""
        max_tokens: int = Field(default=64, ge=1)
        """Maximum number of tokens; the states of neighboring steps are averaged."""
        dropout: float = Field(default=0.1, ge=0, lt=1)
        """Dropout rate on the input of each layer."""

    modality: ClassVar[str] = "time_series"

    def __init__(self, options: Options, *, shape: dict[str, Any], width: int) -> None:
        super().__init__(options, shape=shape, width=width)
        self.window = window_size(shape["steps"], options.max_tokens)
        self.embed = nn.Linear(2 * shape["channels"], options.hidden_size)
        self.lstm = LSTMStack(
            options.hidden_size,
            options.hidden_size,
            options.num_layers,
            options.dropout,
            bidirectional=options.bidirectional,
        )
        self.width = self.lstm.width

    def forward(self, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """`values` and `observed [items, steps, channels]`, `length [items]` -> `[items, tokens, width]`."""
        x = self.embed(step_features(data, self.embed.weight.dtype))  # [items, steps, hidden_size]
        return pool_steps(self.lstm(x, data["length"]), length_mask(data["length"], x.shape[1]), self.window)

    def times(self, data: dict[str, Tensor], length: int) -> Tensor:
        return window_times(data, length, self.window, self.window)
