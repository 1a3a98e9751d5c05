"""A recurrent encoder of series."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from polymodal.core.options import sized
from polymodal.core.registry import register
from polymodal.core.types import length_mask
from polymodal.nn.encoders.base import Encoder, EncoderOptions
from polymodal.nn.encoders.recurrent import LSTMStack
from polymodal.nn.encoders.series_steps import pool_steps, steps_of, window_of, window_times


@register
class SeriesLSTM(Encoder):
    """Long short-term memory over the steps (Hochreiter and Schmidhuber, "Long Short-Term Memory", 1997), in both
    directions if wanted (Schuster and Paliwal, "Bidirectional Recurrent Neural Networks", 1997).

        x_t = W [values_t; observed_t] + b ;  h_t = [forward state; backward state]

    The backward pass starts at each series' own last step, so padding never reaches a real one. A token is the mean of
    the states of neighbouring steps.
    """

    class Options(EncoderOptions):
        name: Literal["series_lstm"] = "series_lstm"
        hidden: int = sized(64, 128, 256, ge=1)
        """Width of the state in each direction."""
        layers: int = sized(1, 2, 2, ge=1, le=8)
        """Layers on top of each other."""
        bidirectional: bool = True
        """Read backwards too."""
        tokens: int = Field(default=64, ge=1)
        """Most tokens; the states of neighbouring steps are averaged down to them."""
        dropout: float = Field(default=0.1, ge=0, lt=1)
        """Share of units dropped in training, before each layer."""

    modality: ClassVar[str] = "series"

    def __init__(self, options: Options, *, shape: dict[str, Any], width: int) -> None:
        super().__init__(options, shape=shape, width=width)
        self.window = window_of(shape["steps"], options.tokens)
        self.embed = nn.Linear(2 * shape["channels"], options.hidden)
        self.steps = LSTMStack(
            options.hidden, options.hidden, options.layers, options.dropout, bidirectional=options.bidirectional
        )
        self.width = self.steps.width

    def forward(self, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """`values` and `observed [items, steps, channels]`, `length [items]` -> `[items, tokens, width]`."""
        x = self.embed(steps_of(data, self.embed.weight.dtype))
        return pool_steps(self.steps(x, data["length"]), length_mask(data["length"], x.shape[1]), self.window)

    def times(self, data: dict[str, Tensor], length: int) -> Tensor:
        return window_times(data, length, self.window, self.window)
