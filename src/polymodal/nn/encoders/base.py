"""The base class of encoders: prepared tensors of distinct items -> features and mask."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn

from polymodal.core.options import Options, SizedModel
from polymodal.core.types import length_mask
from polymodal.pretrained.fingerprint import Fingerprint


class EncoderOptions(Options, SizedModel):
    """Base of every encoder's options."""


#: Field name -> (numpy dtype name, shape of one entry).
FieldSpecs = Mapping[str, tuple[str, tuple[int, ...]]]


class FrozenPrefix(NamedTuple):
    """The frozen layers at the input of an encoder, below its lowest trainable layer, and what their output holds.

    fingerprint: identifies these layers: encoder, the options that matter, and a hash of the weights
    width: n of the output `hidden [items, length, n]`
    per_step: further output fields with an entry for each hidden state, `[items, length, *shape]`
    per_item: further output fields with an entry for each item, `[items, *shape]`
    """

    fingerprint: str
    width: int
    per_step: FieldSpecs = MappingProxyType({})
    per_item: FieldSpecs = MappingProxyType({})


class Encoder(nn.Module):
    """Base class of all encoders.

    An encoder reads the prepared tensors of one `modality`. `shape` describes them (`Modality.shape()`: vocabulary
    size, image size, number of columns ...). `forward` maps `data` (tensors `[items, ...]` of distinct items) to
    `features [items, length, self.width]` and `mask [items, length]` (True = a real token; at least one per item).
    The network then projects the features to the hidden size, normalizes them, and inserts the learned "missing" token
    where an input is absent.

    An encoder with frozen lower layers is split below its lowest trainable layer. `encode_frozen` runs the lower part:
    its output for an item is the same in every epoch, fold and run, so it is cached. `forward` continues from it.

    An encoder without trainable parameters is frozen as a whole (`is_frozen`): its features are cached, and it stays
    in evaluation mode (no dropout, no update of batch statistics). `forward_cached` reads its cached features;
    `forward` does not.

    Example:
        An encoder of numeric columns that gives one token per column:

        >>> import torch
        >>> from torch import nn
        >>> class Scaled(Encoder):
        ...     modality = "number"
        ...     def __init__(self, options, *, shape, width):
        ...         super().__init__(options, shape=shape, width=width)
        ...         self.width = width
        ...         self.weight = nn.Parameter(torch.ones(shape["columns"], width))
        ...     def forward(self, data):
        ...         features = data["values"].unsqueeze(-1) * self.weight  # [items, columns, width]
        ...         return features, torch.ones(features.shape[:2], dtype=torch.bool)
        >>> encoder = Scaled(EncoderOptions(name="scaled"), shape={"columns": 3}, width=8)
        >>> features, mask = encoder({"values": torch.randn(5, 3)})
        >>> tuple(features.shape), tuple(mask.shape)
        ((5, 3, 8), (5, 3))

        With `@register` before the class and its own `Options` (whose `name` is the name in a recipe), a recipe can
        select it.
    """

    kind: ClassVar[str] = "encoder"
    Options: ClassVar[type[EncoderOptions]]
    modality: ClassVar[str]
    #: The number of training items that `fit_items` needs at most; 0 if nothing is fitted
    num_fit_items: ClassVar[int] = 0

    #: width of the features that `forward` returns; set in the constructor of the subclass
    width: int

    def __init__(self, options: EncoderOptions, *, shape: dict[str, Any], width: int) -> None:
        super().__init__()
        self._init_args = (options, shape, width)
        self._hash = Fingerprint()

    @classmethod
    def required_options(cls, options: Any) -> dict[str, Any]:
        """Options of the modality that this encoder requires, such as the checkpoint that defines the preprocessing."""
        return {}

    @classmethod
    def has_frozen_checkpoint(cls, options: Any) -> bool:
        """Whether `encode_frozen` is the output of a pretrained checkpoint under these options."""
        return False

    @classmethod
    def preferred_options(cls, options: Any) -> dict[str, Any]:
        """Options of the modality that this encoder prefers. Unlike those of `required_options`, a recipe may set other
        values."""
        return {}

    def load_pretrained(self) -> None:
        """Load pretrained weights. Called once on a new network, not on a network that is loaded from a directory."""

    @property
    def is_fitted(self) -> bool:
        """Whether the fixed state is fitted, by `fit_items` or by loading a saved model."""
        return True

    def fit_items(self, data: dict[str, Tensor]) -> None:
        """Fit fixed (not trained) state to prepared training items. Called before training if `is_fitted` is False. May
        draw from torch's global generator."""

    def forward(self, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Features `[items, length, width]` and mask `[items, length]` of prepared items.

        An encoder that overrides `frozen_prefix` also accepts the output of its `encode_frozen`: then `data` holds
        `hidden`, and the other fields that `frozen_prefix` lists, in place of the prepared tensors.
        """
        raise NotImplementedError(type(self).__name__)

    @property
    def is_frozen(self) -> bool:
        """Whether the encoder has no trainable parameters, so that its whole output is cached. False for an encoder
        that overrides `frozen_prefix`: it defines its frozen part itself."""
        if type(self).frozen_prefix is not Encoder.frozen_prefix:
            return False
        trainable = [parameter.requires_grad for parameter in self.parameters()]
        return bool(trainable) and not any(trainable)

    def train(self, mode: bool = True) -> Self:
        return super().train(mode and not self.is_frozen)

    def forward_cached(self, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Features and mask, as `forward` returns them, from the `encode_frozen` output of a frozen encoder."""
        return data["hidden"], length_mask(data["length"], data["hidden"].shape[1])

    def token_times(self, data: dict[str, Tensor], length: int) -> Tensor | None:
        """`times`, from prepared items or from the output of `encode_frozen`."""
        return data.get("times") if self.is_frozen and "hidden" in data else self.times(data, length)

    def frozen_prefix(self) -> FrozenPrefix | None:
        """The layers that `encode_frozen` runs: all layers of a frozen encoder. None if the lowest layer is
        trainable."""
        if not self.is_frozen:
            return None
        options, shape, width = self._init_args
        identity = f"{options.model_dump_json()}\n{sorted(shape.items())}\n{width}"
        per_step: FieldSpecs = {"times": ("float32", ())} if type(self).times is not Encoder.times else {}
        return FrozenPrefix(
            f"{identity}\n{self._hash.compute(self.state_dict(keep_vars=True))}", self.width, per_step=per_step
        )

    def encode_frozen(self, data: dict[str, Tensor]) -> dict[str, Tensor]:
        """The output of the frozen prefix for prepared items; the real tokens of each item come first.

        Returns `hidden [items, length, n]`, padded after each item's `length [items]`, and the fields that
        `frozen_prefix` lists. Call it only if `frozen_prefix` is not None.
        """
        with torch.no_grad():
            features, mask = self(data)
            times = self.times(data, features.shape[1])
        output = {"hidden": features, "length": mask.sum(1)}
        return output if times is None else output | {"times": times.float()}

    def item_bytes(self, length: int | None = None) -> float:
        """Bytes of the largest tensor per item, if that can be more than the size of the prepared item.

        length: the length of the item; None for the longest
        """
        return 0.0

    def lr_multipliers(self) -> dict[nn.Parameter, float]:
        """Multipliers of the learning rate, for the parameters whose learning rate differs from the rest."""
        return {}

    def times(self, data: dict[str, Tensor], length: int) -> Tensor | None:
        """The center of each of the `length` tokens of each item, `[items, length]` fp32, in seconds from its start.

        None if the modality has no time axis (default).
        """
        return None

    def token_grid(self, length: int) -> tuple[int, int] | None:
        """Rows and columns of the picture that the `length` tokens of an item cover in row-major order.

        None if the tokens do not cover a picture (default).
        """
        return None
