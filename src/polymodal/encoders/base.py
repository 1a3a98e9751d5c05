"""What an encoder is: the prepared tensors of distinct items -> features and mask."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from polymodal.recipe.options import Options, Sized


class EncoderOptions(Options, Sized):
    """Base of every encoder's options."""


class Encoder(nn.Module):
    """Base of every encoder.

    `modality` names the modality whose prepared tensors it reads; `shape` is what that modality says about them
    (`Modality.shape()`: vocabulary, pixels, columns ...). `forward` maps `data` (tensors `[items, ...]` of distinct
    items) to `features [items, length, self.width]` and `mask [items, length]` (True = real, at least one per item).
    The network projects to the common width, normalises, and puts the learned "missing" token where an input is absent.
    """

    kind: ClassVar[str] = "encoder"
    Options: ClassVar[type[EncoderOptions]]
    modality: ClassVar[str]

    #: width of the features that `forward` returns; set by the subclass
    width: int

    def __init__(self, options: EncoderOptions, *, shape: dict[str, Any], width: int) -> None:
        super().__init__()

    def forward(self, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        raise NotImplementedError(type(self).__name__)

    def times(self, data: dict[str, Tensor], length: int) -> Tensor | None:
        """The middle of each of the `length` tokens of each item, `[items, length]` fp32, in seconds from its start.

        None where the modality has no timeline (here).
        """
        return None
