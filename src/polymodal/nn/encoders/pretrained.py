"""The base class of pretrained encoders: options, fine-tuning, and the split below the trainable layers."""

from __future__ import annotations

import json
from abc import abstractmethod
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from polymodal.core.options import sized_field
from polymodal.core.types import length_mask
from polymodal.nn.encoders.base import Encoder, EncoderOptions, FrozenPrefix
from polymodal.nn.encoders.token_pooling import average_tokens
from polymodal.pretrained import fine_tuning
from polymodal.pretrained.backbone import Backbone
from polymodal.pretrained.checkpoint_config import CheckpointConfig
from polymodal.pretrained.fine_tuning import FineTuningOptions
from polymodal.pretrained.fingerprint import Fingerprint

#: The tensor with the content of an item, by modality; the other tensors of an item describe it (such as its length).
CONTENT_FIELDS = {"text": "values", "image": "pixels", "video": "pixels", "audio": "values"}
#: Prefix of tensors of prepared items that are cached together with hidden states.
PER_ITEM_PREFIX = "item."


class PretrainedOptions(EncoderOptions, FineTuningOptions):
    """Options common to all pretrained encoders."""

    checkpoint: str = sized_field("fast", "balanced", "best")
    """Checkpoint: a preset (`starter`, `fast`, `balanced`, `best`), a hub id (`owner/name`, `owner/name@revision`), or
    a folder."""
    max_tokens: int | None = Field(default=1, ge=1)
    """Maximum number of tokens per item. 1: the pooled output of the checkpoint; more: averages of neighboring tokens;
    null: all tokens."""


class PretrainedEncoder(Encoder):
    """Base class of the encoders with a pretrained checkpoint.

    A subclass defines the inputs of the network (`prepare_inputs`), how its output becomes tokens (`extract_tokens`),
    and, for modalities with a time axis, the time of each token (`compute_times`). All three receive prepared items in
    `data`. When `forward` continues from cached hidden states, the content of these items is a placeholder; their other
    tensors are real.

    Raises:
        RecipeError: an option has no effect in combination with the others, or the checkpoint does not support this
            fine-tuning mode.
    """

    Options: type[PretrainedOptions]  # type: ignore[misc]

    def __init__(self, options: PretrainedOptions, *, shape: dict[str, Any], width: int) -> None:
        super().__init__(options, shape=shape, width=width)
        fine_tuning.check_options(options)
        self.options, self.checkpoint, self.shape = options, CheckpointConfig.from_dict(shape["checkpoint"]), shape
        self.backbone = Backbone(self.checkpoint, self.modality, is_quantized=options.quantization != "none")
        fine_tuning.apply_fine_tuning(self.backbone, options)
        embedding = self.backbone.embedding_dim if options.max_tokens == 1 else None
        self.width = embedding or self.backbone.width
        self.keep_all = False
        self._fingerprint = Fingerprint()
        self._cached_example: dict[str, Tensor] | None = None

    @classmethod
    def required_options(cls, options: Any) -> dict[str, Any]:
        return {"checkpoint": options.checkpoint}

    @classmethod
    def has_frozen_checkpoint(cls, options: Any) -> bool:
        return bool(options.fine_tuning == "freeze")

    def load_pretrained(self) -> None:
        self.backbone.load()

    def keep_all_tokens(self) -> None:
        """Return all output tokens of the network, including those of the padding of a fixed-length window, as the
        pretrained decoder of the same checkpoint expects."""
        self.keep_all = True

    @abstractmethod
    def prepare_inputs(self, data: dict[str, Tensor]) -> dict[str, Tensor]:
        """The inputs of the network (`input_ids`, `pixel_values` ...) from prepared items."""

    @abstractmethod
    def extract_tokens(self, output: Any, inputs: dict[str, Tensor], data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Tokens `[items, length, width]` and mask `[items, length]` from the output of the network: its pooled output
        if `max_tokens` is 1, else all tokens."""

    def compute_times(self, data: dict[str, Tensor], length: int) -> Tensor | None:
        """The center of each of `length` tokens, `[items, length]` fp32 in seconds. None without a time axis
        (default)."""
        return None

    def run_frozen(self, inputs: dict[str, Tensor], data: dict[str, Tensor]) -> Any:
        """The output of the frozen network for its inputs, which were prepared from the items `data`."""
        return self.backbone.forward_full(inputs)

    #: Names the way in which `run_frozen` differs from the network as it is; a part of the key of cached features.
    frozen_variant = ""

    @property
    def is_checkpoint_frozen(self) -> bool:
        """Whether the whole checkpoint is frozen, so that its features are cached."""
        return self.options.fine_tuning == "freeze"

    @property
    def has_timeline(self) -> bool:
        return type(self).compute_times is not PretrainedEncoder.compute_times

    def forward(self, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        if self.is_checkpoint_frozen:
            found = data if "hidden" in data else self.encode_frozen(data)
            hidden = found["hidden"]
            return hidden, length_mask(found["length"], hidden.shape[1])
        if "hidden" in data:
            items = self._placeholder_items(data)
            inputs = self._placeholder_inputs(items, data["hidden"])
            output = self.backbone.forward_upper(data["hidden"].float(), inputs)
            return self._tokens(output, inputs, items)
        inputs = self.prepare_inputs(data)
        if self.backbone.split_index == 0:
            return self._tokens(self.backbone.forward_full(inputs), inputs, data)
        with torch.no_grad():
            hidden = self.backbone.forward_lower(inputs)
        return self._tokens(self.backbone.forward_upper(hidden, inputs), inputs, data)

    def frozen_prefix(self) -> FrozenPrefix | None:
        if self.backbone.split_index == 0:
            return None
        kept = json.dumps(self.checkpoint.files, sort_keys=True)
        tokens = "window" if self.keep_all else self.options.max_tokens
        where = (
            f"tokens {tokens}{self.frozen_variant}"
            if self.is_checkpoint_frozen
            else f"cut {self.backbone.split_index} of {self.backbone.num_layers}"
        )
        name = f"{self.options.name}\n{kept}\n{where}\n{self._fingerprint.compute(self._frozen_tensors())}"
        if self.is_checkpoint_frozen:
            return FrozenPrefix(name, self.width, per_step={"times": ("float32", ())} if self.has_timeline else {})
        about = {PER_ITEM_PREFIX + field: tensor for field, tensor in self._per_item_example().items()}
        items = {field: (str(one.dtype).removeprefix("torch."), tuple(one.shape[1:])) for field, one in about.items()}
        return FrozenPrefix(name, self.backbone.split_width, per_item=items)

    def encode_frozen(self, data: dict[str, Tensor]) -> dict[str, Tensor]:
        inputs = self.prepare_inputs(data)
        with torch.no_grad():
            if self.is_checkpoint_frozen:
                features, mask = self._tokens(self.run_frozen(inputs, data), inputs, data)
                found = {"hidden": features, "length": mask.sum(1)}
                times = self.compute_times(data, features.shape[1]) if self.has_timeline else None
                return found if times is None else found | {"times": times.float()}
            hidden = self.backbone.forward_lower(inputs)
        found = {"hidden": hidden, "length": self.backbone.valid_lengths(inputs, hidden.shape[1])}
        return found | {PER_ITEM_PREFIX + field: data[field] for field in self._per_item_example()}

    def lr_multipliers(self) -> dict[nn.Parameter, float]:
        return fine_tuning.lr_multipliers(self.backbone, self.options)

    def times(self, data: dict[str, Tensor], length: int) -> Tensor | None:
        if "hidden" not in data or not self.has_timeline:
            return self.compute_times(data, length)
        return data["times"] if self.is_checkpoint_frozen else self.compute_times(self._placeholder_items(data), length)

    def _tokens(self, output: Any, inputs: dict[str, Tensor], items: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        tokens, mask = self.extract_tokens(output, inputs, items)
        most = self.options.max_tokens
        return (tokens, mask) if most is None or tokens.shape[1] <= most else average_tokens(tokens, mask, most)

    def _frozen_tensors(self) -> dict[str, Tensor]:
        """The tensors that the frozen prefix may use: all except trainable ones and those of layers above the split."""
        layers = self.backbone.layers[self.backbone.split_index :]
        above = {id(tensor) for layer in layers for tensor in [*layer.parameters(), *layer.buffers()]}
        held = [*self.named_parameters(), *self.named_buffers()]
        return {name: tensor for name, tensor in held if id(tensor) not in above and not tensor.requires_grad}

    def _per_item_example(self) -> dict[str, Tensor]:
        """The tensors of an item that are needed to continue from its hidden states, with example values."""
        if self.modality == "text" and "attention_mask" in self._example_inputs():
            return {}
        return {name: tensor for name, tensor in self._example_item().items() if name != CONTENT_FIELDS[self.modality]}

    def _placeholder_items(self, data: dict[str, Tensor]) -> dict[str, Tensor]:
        """Prepared items with placeholder content, from the output of `encode_frozen`."""
        count = len(data["hidden"])
        items = {name: data[PER_ITEM_PREFIX + name] for name in self._per_item_example()} or {"length": data["length"]}
        name = CONTENT_FIELDS[self.modality]
        content = self._example_item()[name]
        if self.modality in ("text", "audio"):
            longest = int(items["length"].max())
            items[name] = content.new_zeros(count, *content.shape[1:-1], longest)
            if self.modality == "text":
                items[name].scatter_(1, (items["length"] - 1).unsqueeze(1), self._end_token_id())
        else:
            items[name] = content.expand(count, *content.shape[1:])
        return items

    def _placeholder_inputs(self, items: dict[str, Tensor], hidden: Tensor) -> dict[str, Tensor]:
        """The inputs of the network for placeholder items; computed once and expanded if they are equal for all."""
        one = self._example_inputs()
        if self.modality == "text" or "attention_mask" in one:
            return self.prepare_inputs(items)
        return {name: tensor.expand(hidden.shape[0], *tensor.shape[1:]) for name, tensor in one.items()}

    @property
    def _device(self) -> torch.device:
        return next(self.backbone.parameters()).device

    def _example_item(self) -> dict[str, Tensor]:
        """A prepared item of maximum length, with zeros as content."""
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

    def _example_inputs(self) -> dict[str, Tensor]:
        if self._cached_example is None:  # also used in training, so it must not be an inference tensor
            with torch.inference_mode(False), torch.no_grad(), torch.autocast(self._device.type, enabled=False):
                self._cached_example = self.prepare_inputs(self._example_item())
        return self._cached_example

    def _end_token_id(self) -> int:
        """The token id at the end of each text, whose position some networks (CLIP) use for pooling."""
        config = self.backbone.model.config
        end = getattr(config, "eos_token_id", None)
        return end if isinstance(end, int) and 2 < end < config.vocab_size else config.vocab_size - 1
