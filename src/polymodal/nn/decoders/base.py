"""The interface of a decoder: a `FusionOutput` -> the values of one output."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

from polymodal.core.options import Options, SizedModel
from polymodal.core.types import FusionOutput, OutputShape
from polymodal.nn.encoders.base import Encoder


class DecoderOptions(Options, SizedModel):
    """Base of the options of every decoder."""


class SavedDecoder(NamedTuple):
    """The decoder of a saved model, used to initialize a decoder of the same kind.

    folder: directory of the model
    width: the common width of the model
    options: options of the decoder
    weights: tensors by their names in the decoder
    memory_token: `[width]`, the one token that the decoder attends to if its model has no inputs; None if it has inputs
    """

    folder: Path
    width: int
    options: Options
    weights: Mapping[str, Tensor]
    memory_token: Tensor | None


class Decoder(nn.Module):
    """Base of every decoder: built with the fused width and the `shape` of the values that its task requires.

    Example:
        >>> import torch
        >>> from polymodal.core.types import Tokens
        >>> from polymodal.nn.decoders.linear import Linear
        >>> decoder = Linear(Linear.Options(), width=4, shape=OutputShape(3, "categorical"))
        >>> vector, present = torch.zeros(2, 4), torch.ones(2, dtype=torch.bool)
        >>> tokens = Tokens(vector.unsqueeze(1), present.unsqueeze(1), present)
        >>> decoder(FusionOutput("joint", tokens, vector, torch.ones(2))).shape
        torch.Size([2, 3])
    """

    kind: ClassVar[str] = "decoder"
    Options: ClassVar[type[DecoderOptions]]
    #: Whether it generates text; see `nn.decoders.text_decoder.TextDecoder`.
    is_generative: ClassVar[bool] = False
    #: Whether it reads the unprojected outputs of the encoders (`FusionOutput.encoder_outputs`).
    uses_encoder_outputs: ClassVar[bool] = False
    #: The tasks that it supports; empty: all.
    tasks: ClassVar[tuple[str, ...]] = ()

    def __init__(self, options: DecoderOptions, *, width: int, shape: OutputShape) -> None:
        super().__init__()

    @classmethod
    def required_options(cls, options: Any) -> dict[str, Any]:
        """Options that the task must have for this decoder, e.g. the checkpoint that defines its tokens."""
        return {}

    def load_pretrained(self) -> None:
        """Load pretrained weights. Called once on a new network, never on a network that is read from a directory."""

    @property
    def init_from(self) -> str | None:
        """Directory of a saved model whose decoder of this kind initializes this decoder; None: random
        initialization."""
        return None

    def load_from(self, saved: SavedDecoder) -> None:
        """Initialize from a saved decoder of this kind; called instead of `load_pretrained` if `init_from` names a
        model.

        Raises:
            RecipeError: the decoders differ in shape.
        """
        raise NotImplementedError(type(self).__name__)

    def attach_encoders(self, encoders: Mapping[str, Encoder]) -> None:
        """Configure the encoders whose outputs the decoder reads. Called once, after the network is built.

        encoders: the encoder of each input

        Raises:
            RecipeError: an input does not have the required encoder.
        """

    def lr_multipliers(self) -> dict[nn.Parameter, float]:
        """Learning-rate multipliers of the parameters whose multiplier is not 1."""
        return {}

    def forward(self, fused: FusionOutput) -> Tensor:
        """Decode a fusion output to `[batch, shape.values]`."""
        raise NotImplementedError(type(self).__name__)
