"""What encoders with pretrained checkpoints share: options, tuning, and the cut below what learns."""

from __future__ import annotations

import json
from abc import abstractmethod
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from polymodal.core.options import sized
from polymodal.core.types import length_mask
from polymodal.nn.encoders.base import Encoder, EncoderOptions, Settled
from polymodal.nn.encoders.tokens import average_tokens
from polymodal.pretrained import tuning
from polymodal.pretrained.backbone import Backbone
from polymodal.pretrained.card import Card
from polymodal.pretrained.fingerprint import Fingerprint
from polymodal.pretrained.tuning import TuningOptions

#: The tensor that holds an item's content, by modality; all others of an item are about it, as its length.
CONTENT = {"text": "values", "image": "pixels", "video": "pixels", "audio": "values"}
#: Before the name of a prepared item's tensor that is kept beside hidden states.
OF_ITEM = "item."


class PretrainedOptions(EncoderOptions, TuningOptions):
    """Options of every pretrained encoder."""

    model: str = sized("fast", "balanced", "best")
    """The checkpoint: a preset (`starter`, `fast`, `balanced`, `best`), a hub id (`owner/name`, `owner/name@revision`),
    or a folder."""
    tokens: int | None = Field(default=1, ge=1)
    """Tokens that an item becomes at most. 1: the checkpoint's own summary of it; more: neighbours are averaged;
    silent: all of them."""


class PretrainedEncoder(Encoder):
    """Base of the encoders with a pretrained checkpoint.

    A subclass says what the checkpoint's network reads (`inputs`), how its output becomes tokens (`read`), and where
    it has a timeline the time of each (`moments`). `data` of all three are prepared items; going on from settled ones,
    their content is blank, while everything else that a prepared item has is there.

    Raises:
        RecipeError: an option has no effect beside the others, or the checkpoint cannot be tuned in this way.
    """

    Options: type[PretrainedOptions]  # type: ignore[misc]

    def __init__(self, options: PretrainedOptions, *, shape: dict[str, Any], width: int) -> None:
        super().__init__(options, shape=shape, width=width)
        tuning.check(options)
        self.options, self.card, self.shape = options, Card.of(shape["checkpoint"]), shape
        self.backbone = Backbone(self.card, self.modality)
        tuning.apply(self.backbone, options)
        embedding = self.backbone.embedding if options.tokens == 1 else None
        self.width = embedding or self.backbone.width
        self.all = False
        self._fingerprint = Fingerprint()
        self._example: dict[str, Tensor] | None = None

    @classmethod
    def prescribe(cls, options: Any) -> dict[str, Any]:
        return {"checkpoint": options.model}

    def initialise(self) -> None:
        self.backbone.load()

    def give_all(self) -> None:
        """Give whatever the network gave for an item, silence that fills its window too: its own decoder reads that."""
        self.all = True

    @abstractmethod
    def inputs(self, data: dict[str, Tensor]) -> dict[str, Tensor]:
        """What the network reads (`input_ids`, `pixel_values` ...), of prepared items."""

    @abstractmethod
    def read(self, output: Any, inputs: dict[str, Tensor], data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Tokens `[items, length, width]` and mask `[items, length]` of the network's output: the checkpoint's own
        summary where `tokens` is 1, else all of them."""

    def moments(self, data: dict[str, Tensor], length: int) -> Tensor | None:
        """The middle of each of `length` tokens, `[items, length]` fp32 in seconds; None without a timeline (here)."""
        return None

    @property
    def frozen(self) -> bool:
        """Whether nothing of the checkpoint learns, so that its features are final."""
        return self.options.tune == "frozen"

    @property
    def timed(self) -> bool:
        return type(self).moments is not PretrainedEncoder.moments

    def forward(self, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        if self.frozen:
            found = data if "hidden" in data else self.settle(data)
            hidden = found["hidden"]
            return hidden, length_mask(found["length"], hidden.shape[1])
        if "hidden" in data:
            items = self._blank(data)
            inputs = self._blank_inputs(items, data["hidden"])
            output = self.backbone.upper(data["hidden"].float(), inputs)
            return self._tokens(output, inputs, items)
        inputs = self.inputs(data)
        if self.backbone.cut == 0:
            return self._tokens(self.backbone.whole(inputs), inputs, data)
        with torch.no_grad():
            hidden = self.backbone.lower(inputs)
        return self._tokens(self.backbone.upper(hidden, inputs), inputs, data)

    def settled(self) -> Settled | None:
        if self.backbone.cut == 0:
            return None
        kept = json.dumps(self.card.files, sort_keys=True)
        tokens = "window" if self.all else self.options.tokens
        where = f"tokens {tokens}" if self.frozen else f"cut {self.backbone.cut} of {self.backbone.depth}"
        name = f"{self.options.name}\n{kept}\n{where}\n{self._fingerprint.of(self._still())}"
        if self.frozen:
            return Settled(name, self.width, records={"times": ("float32", ())} if self.timed else {})
        about = {OF_ITEM + field: tensor for field, tensor in self._about().items()}
        items = {field: (str(one.dtype).removeprefix("torch."), tuple(one.shape[1:])) for field, one in about.items()}
        return Settled(name, self.backbone.cut_width, items=items)

    def settle(self, data: dict[str, Tensor]) -> dict[str, Tensor]:
        inputs = self.inputs(data)
        with torch.no_grad():
            if self.frozen:
                features, mask = self._tokens(self.backbone.whole(inputs), inputs, data)
                found = {"hidden": features, "length": mask.sum(1)}
                times = self.moments(data, features.shape[1]) if self.timed else None
                return found if times is None else found | {"times": times.float()}
            hidden = self.backbone.lower(inputs)
        found = {"hidden": hidden, "length": self.backbone.lengths(inputs, hidden.shape[1])}
        return found | {OF_ITEM + field: data[field] for field in self._about()}

    def rates(self) -> dict[nn.Parameter, float]:
        return tuning.rates(self.backbone, self.options)

    def times(self, data: dict[str, Tensor], length: int) -> Tensor | None:
        if "hidden" not in data or not self.timed:
            return self.moments(data, length)
        return data["times"] if self.frozen else self.moments(self._blank(data), length)

    def _tokens(self, output: Any, inputs: dict[str, Tensor], items: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        tokens, mask = self.read(output, inputs, items)
        most = self.options.tokens
        return (tokens, mask) if most is None or tokens.shape[1] <= most else average_tokens(tokens, mask, most)

    def _still(self) -> dict[str, Tensor]:
        """What the settled layers may read: all tensors but those of the layers above the cut, and what learns."""
        layers = self.backbone.layers[self.backbone.cut :]
        above = {id(tensor) for layer in layers for tensor in [*layer.parameters(), *layer.buffers()]}
        held = [*self.named_parameters(), *self.named_buffers()]
        return {name: tensor for name, tensor in held if id(tensor) not in above and not tensor.requires_grad}

    def _about(self) -> dict[str, Tensor]:
        """What must be known of an item, besides its hidden states and their number, to go on from them: an example."""
        if self.modality == "text" and "attention_mask" in self._one_inputs():
            return {}
        return {name: tensor for name, tensor in self._one().items() if name != CONTENT[self.modality]}

    def _blank(self, data: dict[str, Tensor]) -> dict[str, Tensor]:
        """Prepared items without content, of what `settle` gave."""
        count = len(data["hidden"])
        items = {name: data[OF_ITEM + name] for name in self._about()} or {"length": data["length"]}
        name = CONTENT[self.modality]
        content = self._one()[name]
        if self.modality in ("text", "audio"):
            longest = int(items["length"].max())
            items[name] = content.new_zeros(count, *content.shape[1:-1], longest)
            if self.modality == "text":
                items[name].scatter_(1, (items["length"] - 1).unsqueeze(1), self._last_symbol())
        else:
            items[name] = content.expand(count, *content.shape[1:])
        return items

    def _blank_inputs(self, items: dict[str, Tensor], hidden: Tensor) -> dict[str, Tensor]:
        """What the network reads of items without content: where it is the same for all, made of one of them."""
        one = self._one_inputs()
        if self.modality == "text" or "attention_mask" in one:
            return self.inputs(items)
        return {name: tensor.expand(len(hidden), *tensor.shape[1:]) for name, tensor in one.items()}

    @property
    def _device(self) -> torch.device:
        return next(self.backbone.parameters()).device

    def _one(self) -> dict[str, Tensor]:
        """A prepared item without content, as long as there can be."""
        shape = self.shape
        length = torch.ones(1, dtype=torch.int64, device=self._device)
        if self.modality == "text":
            return {
                "values": length.new_zeros(1, shape["length"], dtype=torch.int32),
                "length": length * shape["length"],
            }
        if self.modality == "audio":
            values = length.new_zeros(1, shape["channels"], shape["samples"], dtype=torch.float32)
            return {"values": values, "length": length * shape["samples"]}
        pixels = [shape["channels"], shape["height"], shape["width"]]
        if self.modality == "image":
            return {"pixels": length.new_zeros(1, *pixels, dtype=torch.uint8)}
        frames = shape["frames"]
        return {
            "pixels": length.new_zeros(1, frames, *pixels, dtype=torch.uint8),
            "times": length.new_zeros(1, frames, dtype=torch.float32),
            "length": length * frames,
        }

    def _one_inputs(self) -> dict[str, Tensor]:
        if self._example is None:  # kept for training too, whatever the mode it is first needed in
            with torch.inference_mode(False), torch.no_grad(), torch.autocast(self._device.type, enabled=False):
                self._example = self.inputs(self._one())
        return self._example

    def _last_symbol(self) -> int:
        """What stands at the end of each text, where some networks (CLIP) look for their summary."""
        config = self.backbone.model.config
        end = getattr(config, "eos_token_id", None)
        return end if isinstance(end, int) and 2 < end < config.vocab_size else config.vocab_size - 1
