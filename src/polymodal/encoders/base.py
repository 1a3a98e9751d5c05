"""What an encoder is: the prepared tensors of distinct items -> features and mask."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

from polymodal.recipe.options import Options, Sized


class EncoderOptions(Options, Sized):
    """Base of every encoder's options."""


#: By name of a field, its type (as numpy names it) and the shape of one entry.
Fields = Mapping[str, tuple[str, tuple[int, ...]]]


class Settled(NamedTuple):
    """The layers of an encoder below the lowest that learns.

    name: what tells them from others: their kind, the options that matter, and a hash of their weights
    width: n of the `hidden [items, length, n]` that they give
    records: what else they give of each hidden state, `[items, length, *shape]`
    items: what else they give of each item, `[items, *shape]`
    """

    name: str
    width: int
    records: Fields = MappingProxyType({})
    items: Fields = MappingProxyType({})


class Encoder(nn.Module):
    """Base of every encoder.

    `modality` names the modality whose prepared tensors it reads; `shape` is what that modality says about them
    (`Modality.shape()`: vocabulary, pixels, columns ...). `forward` maps `data` (tensors `[items, ...]` of distinct
    items) to `features [items, length, self.width]` and `mask [items, length]` (True = real, at least one per item).
    The network projects to the common width, normalises, and puts the learned "missing" token where an input is absent.

    An encoder whose lower layers do not learn is cut there: `settle` runs what lies below the lowest trainable layer,
    which gives the same for an item in every epoch, fold and run, and `forward` goes on from what `settle` gave.
    """

    kind: ClassVar[str] = "encoder"
    Options: ClassVar[type[EncoderOptions]]
    modality: ClassVar[str]

    #: width of the features that `forward` returns; set by the subclass
    width: int

    def __init__(self, options: EncoderOptions, *, shape: dict[str, Any], width: int) -> None:
        super().__init__()

    @classmethod
    def prescribe(cls, options: Any) -> dict[str, Any]:
        """Options that its modality must have for this encoder, as the checkpoint whose preparation it expects."""
        return {}

    def initialise(self) -> None:
        """Take over pretrained weights: called once on a new network, never on one that is read from a directory."""

    def forward(self, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Features and mask of prepared items, or of what `settle` made of them (then `data` has `hidden`)."""
        raise NotImplementedError(type(self).__name__)

    def settled(self) -> Settled | None:
        """The layers that `settle` runs; None where none lies below the lowest trainable one (here)."""
        return None

    def settle(self, data: dict[str, Tensor]) -> dict[str, Tensor]:
        """What the layers below the lowest trainable one make of prepared items.

        Returns `hidden [items, length, n]`, padded behind each item's `length [items]`, and the fields that `settled`
        names, under their names. Only where `settled` is not None.
        """
        raise NotImplementedError(type(self).__name__)

    def item_bytes(self) -> float:
        """Bytes that its first layer reads of an item, where that may be more than the prepared item has."""
        return 0.0

    def rates(self) -> dict[nn.Parameter, float]:
        """Parameters that learn at another rate than the rest, and the factor on the learning rate of each."""
        return {}

    def times(self, data: dict[str, Tensor], length: int) -> Tensor | None:
        """The middle of each of the `length` tokens of each item, `[items, length]` fp32, in seconds from its start.

        None where the modality has no timeline (here).
        """
        return None
