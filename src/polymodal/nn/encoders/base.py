"""What an encoder is: the prepared tensors of distinct items -> features and mask."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn

from polymodal.core.options import Options, Sized
from polymodal.core.types import length_mask
from polymodal.pretrained.fingerprint import Fingerprint


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

    Any other encoder of which nothing learns is *still*: all of it is settled, its features are final, and it stays in
    evaluation mode (no dropout, no new batch statistics). `final` reads what its `settle` gave; `forward` does not.
    """

    kind: ClassVar[str] = "encoder"
    Options: ClassVar[type[EncoderOptions]]
    modality: ClassVar[str]

    #: width of the features that `forward` returns; set by the subclass
    width: int

    def __init__(self, options: EncoderOptions, *, shape: dict[str, Any], width: int) -> None:
        super().__init__()
        self._made_of = (options, shape, width)
        self._hash = Fingerprint()

    @classmethod
    def prescribe(cls, options: Any) -> dict[str, Any]:
        """Options that its modality must have for this encoder, as the checkpoint whose preparation it expects."""
        return {}

    def initialise(self) -> None:
        """Take over pretrained weights: called once on a new network, never on one that is read from a directory."""

    def forward(self, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Features and mask of prepared items.

        An encoder that has `settled` layers of its own also reads what its `settle` made of items: then `data` has
        `hidden`, and the other fields that `settle` names, in place of the prepared tensors.
        """
        raise NotImplementedError(type(self).__name__)

    @property
    def still(self) -> bool:
        """Whether nothing of it learns, so that what it makes of an item is final. An encoder with settled layers of
        its own says itself how far they reach."""
        if type(self).settled is not Encoder.settled:
            return False
        learns = [parameter.requires_grad for parameter in self.parameters()]
        return bool(learns) and not any(learns)

    def train(self, mode: bool = True) -> Self:
        return super().train(mode and not self.still)

    def final(self, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Features and mask as `forward` gives them, of what `settle` of a still encoder made of items."""
        return data["hidden"], length_mask(data["length"], data["hidden"].shape[1])

    def token_times(self, data: dict[str, Tensor], length: int) -> Tensor | None:
        """What `times` says, of prepared items or of what `settle` made of them."""
        return data.get("times") if self.still and "hidden" in data else self.times(data, length)

    def settled(self) -> Settled | None:
        """The layers that `settle` runs: all of a still encoder; None where none is below the lowest trainable one."""
        if not self.still:
            return None
        options, shape, width = self._made_of
        made_of = f"{options.model_dump_json()}\n{sorted(shape.items())}\n{width}"
        records: Fields = {"times": ("float32", ())} if type(self).times is not Encoder.times else {}
        return Settled(f"{made_of}\n{self._hash.of(self.state_dict(keep_vars=True))}", self.width, records=records)

    def settle(self, data: dict[str, Tensor]) -> dict[str, Tensor]:
        """What the layers below the lowest trainable one make of prepared items; real tokens come first in each.

        Returns `hidden [items, length, n]`, padded behind each item's `length [items]`, and the fields that `settled`
        names, under their names. Only where `settled` is not None.
        """
        with torch.no_grad():
            features, mask = self(data)
            times = self.times(data, features.shape[1])
        found = {"hidden": features, "length": mask.sum(1)}
        return found if times is None else found | {"times": times.float()}

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
