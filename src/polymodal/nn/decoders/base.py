"""What a decoder is: a `View` -> the numbers that a task reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

from polymodal.core.options import Options, SizedModel
from polymodal.core.types import OutputShape, FusionOutput
from polymodal.nn.encoders.base import Encoder


class DecoderOptions(Options, SizedModel):
    """Base of every decoder's options."""


class SavedDecoder(NamedTuple):
    """A decoder of a saved model, from which another of its kind begins.

    folder: of the model
    width: the common width there
    options: the decoder's
    weights: by their names in the decoder
    memory: `[width]`, the one token that it read where its model has no inputs; None where it has inputs
    """

    folder: Path
    width: int
    options: Options
    weights: Mapping[str, Tensor]
    memory: Tensor | None


class Decoder(nn.Module):
    """Base of every decoder: built with the fused width and the `shape` of the values that its task asks for."""

    kind: ClassVar[str] = "decoder"
    Options: ClassVar[type[DecoderOptions]]
    #: Whether it writes texts; see `nn.decoders.writer.Writer`.
    writes: ClassVar[bool] = False
    #: Whether it reads what the encoders gave as they gave it (`View.encoded`).
    uses_encoder_outputs: ClassVar[bool] = False
    #: The tasks that it serves; empty: all.
    tasks: ClassVar[tuple[str, ...]] = ()

    def __init__(self, options: DecoderOptions, *, width: int, shape: OutputShape) -> None:
        super().__init__()

    @classmethod
    def prescribe(cls, options: Any) -> dict[str, Any]:
        """Options that its task must have for this decoder, as the checkpoint whose tokens it writes."""
        return {}

    def initialise(self) -> None:
        """Take over pretrained weights: called once on a new network, never on one that is read from a directory."""

    @property
    def start(self) -> str | None:
        """The folder of a saved model whose decoder of this kind this one begins from; None: it begins anew."""
        return None

    def take_over(self, saved: SavedDecoder) -> None:
        """Begin from a saved decoder of this kind: called in place of `initialise` where `start` names a model.

        Raises:
            RecipeError: it is of another shape.
        """
        raise NotImplementedError(type(self).__name__)

    def attach(self, encoders: Mapping[str, Encoder]) -> None:
        """Look at the encoder of each input, where its outputs are read: called once, when the network is whole.

        Raises:
            RecipeError: an input has no such encoder as is needed.
        """

    def rates(self) -> dict[nn.Parameter, float]:
        """Factors on the learning rate of parameters whose factor is not 1."""
        return {}

    def forward(self, view: FusionOutput) -> Tensor:
        """Decode a view to `[batch, shape.values]`."""
        raise NotImplementedError(type(self).__name__)
