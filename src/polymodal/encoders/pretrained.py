"""What encoders with pretrained checkpoints share: options, tuning, and the cut below what learns."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from pydantic import Field
from torch import Tensor

from polymodal.encoders.base import Encoder, EncoderOptions
from polymodal.pretrained.backbone import Backbone
from polymodal.pretrained.card import Card
from polymodal.recipe.options import sized


class PretrainedOptions(EncoderOptions):
    """Options of every pretrained encoder."""

    model: str = sized("fast", "balanced", "best")
    """The checkpoint: a preset (`starter`, `fast`, `balanced`, `best`), a hub id (`owner/name`, `owner/name@revision`),
    or a folder."""
    tokens: int | None = Field(default=1, ge=1)
    """Tokens that an item becomes at most. 1: the checkpoint's own summary of it; more: neighbours are averaged;
    silent: all of them."""


class PretrainedEncoder(Encoder):
    """Base of the encoders with a pretrained checkpoint. A subclass says what the checkpoint's network reads (`inputs`)
    and how its output becomes tokens (`read`)."""

    Options: type[PretrainedOptions]  # type: ignore[misc]

    def __init__(self, options: PretrainedOptions, *, shape: dict[str, Any], width: int) -> None:
        super().__init__(options, shape=shape, width=width)
        self.options, self.card = options, Card.of(shape["checkpoint"])
        self.backbone = Backbone(self.card, self.modality)
        self.width = self.backbone.width

    @classmethod
    def prescribe(cls, options: Any) -> dict[str, Any]:
        return {"checkpoint": options.model}

    def initialise(self) -> None:
        self.backbone.load()

    @abstractmethod
    def inputs(self, data: dict[str, Tensor]) -> dict[str, Tensor]:
        """What the network reads (`input_ids`, `pixel_values` ...), of prepared items."""

    @abstractmethod
    def read(self, output: Any, inputs: dict[str, Tensor], data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Tokens `[items, length, width]` and mask `[items, length]` of the network's output: the checkpoint's own
        summary where `tokens` is 1, else all of them."""
