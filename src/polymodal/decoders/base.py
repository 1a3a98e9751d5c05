"""What a decoder is: a `View` -> the numbers that a task reads."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from polymodal.recipe.options import Options, Sized
from polymodal.tokens import OutputShape, View


class DecoderOptions(Options, Sized):
    """Base of every decoder's options."""


class Decoder(nn.Module):
    """Base of every decoder: built with the fused width and the `shape` of the values that its task asks for."""

    kind: ClassVar[str] = "decoder"
    Options: ClassVar[type[DecoderOptions]]

    def __init__(self, options: DecoderOptions, *, width: int, shape: OutputShape) -> None:
        super().__init__()

    def forward(self, view: View) -> Tensor:
        """Decode a view to `[batch, shape.values]`."""
        raise NotImplementedError(type(self).__name__)
