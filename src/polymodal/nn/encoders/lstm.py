"""A recurrent text encoder."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from polymodal.core.options import sized
from polymodal.core.registry import register
from polymodal.core.types import length_mask
from polymodal.nn.encoders.base import Encoder, EncoderOptions
from polymodal.nn.encoders.recurrent import LSTMStack


@register
class LSTM(Encoder):
    """Long short-term memory over the symbols (Hochreiter and Schmidhuber, "Long Short-Term Memory", 1997),
    in both directions if wanted (Schuster and Paliwal, "Bidirectional Recurrent Neural Networks", 1997).

    Each position is a token, `[forward state; backward state]`. The backward pass reads each text from its
    own last symbol, so padding never reaches a real position.
    """

    class Options(EncoderOptions):
        name: Literal["lstm"] = "lstm"
        embedding: int = sized(64, 128, 256, ge=1)
        """Width of a symbol's embedding."""
        hidden: int = sized(64, 128, 256, ge=1)
        """Width of the state in each direction."""
        layers: int = sized(1, 1, 2, ge=1, le=8)
        """Layers on top of each other."""
        bidirectional: bool = True
        """Read backwards too."""
        dropout: float = Field(default=0.1, ge=0, lt=1)
        """Share of units dropped in training, before each layer."""

    modality: ClassVar[str] = "text"

    def __init__(self, options: Options, *, shape: dict[str, Any], width: int) -> None:
        super().__init__(options, shape=shape, width=width)
        self.embedding = nn.Embedding(shape["vocabulary"], options.embedding)
        self.symbols = LSTMStack(
            options.embedding, options.hidden, options.layers, options.dropout, bidirectional=options.bidirectional
        )
        self.width = self.symbols.width

    def forward(self, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """`values [items, length]`, `length [items]` -> `[items, length, width]`."""
        values, length = data["values"], data["length"]
        return self.symbols(self.embedding(values), length), length_mask(length, values.shape[1])
