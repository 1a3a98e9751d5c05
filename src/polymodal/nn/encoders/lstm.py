"""An LSTM text encoder."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from polymodal.core.options import sized_field
from polymodal.core.registry import register
from polymodal.core.types import length_mask
from polymodal.nn.encoders.base import Encoder, EncoderOptions
from polymodal.nn.encoders.recurrent import LSTMStack


@register
class LSTM(Encoder):
    """An LSTM over the tokens (Hochreiter and Schmidhuber, "Long Short-Term Memory", 1997), optionally in both
    directions (Schuster and Paliwal, "Bidirectional Recurrent Neural Networks", 1997).

    Each position gives one token, `[forward state; backward state]`. The backward direction starts at the last token
    of each text, so padding does not affect real positions.
    """

    class Options(EncoderOptions):
        name: Literal["lstm"] = "lstm"
        embedding_dim: int = sized_field(64, 128, 256, ge=1)
        """Dimension of the token embeddings."""
        hidden_size: int = sized_field(64, 128, 256, ge=1)
        """Hidden size of the LSTM in each direction."""
        num_layers: int = sized_field(1, 1, 2, ge=1, le=8)
        """Number of layers."""
        bidirectional: bool = True
        """Read the text in both directions."""
        dropout: float = Field(default=0.1, ge=0, lt=1)
        """Dropout rate on the input of each layer."""

    modality: ClassVar[str] = "text"

    def __init__(self, options: Options, *, shape: dict[str, Any], width: int) -> None:
        super().__init__(options, shape=shape, width=width)
        self.embedding = nn.Embedding(shape["vocabulary"], options.embedding_dim)
        self.lstm = LSTMStack(
            options.embedding_dim,
            options.hidden_size,
            options.num_layers,
            options.dropout,
            bidirectional=options.bidirectional,
        )
        self.width = self.lstm.width

    def forward(self, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """`values [items, length]`, `length [items]` -> `[items, length, width]`."""
        values, length = data["values"], data["length"]
        return self.lstm(self.embedding(values), length), length_mask(length, values.shape[1])
