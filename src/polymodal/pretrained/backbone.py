"""The network of a checkpoint, cut in two at the lowest layer that learns."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from polymodal.core.errors import RecipeError
from polymodal.pretrained import cut as cutting
from polymodal.pretrained import weights
from polymodal.pretrained.card import Card
from polymodal.pretrained.parts import example, layers_of, width_of
from polymodal.pretrained.trace import ITEMS, Trace, run_without_content

#: How attention is computed, by part. Texts and images are short sequences, for which plain matrix products are faster
#: on a CPU than the fused kernel (training in bf16: 1.3-1.4 against 0.24-0.75 of fp32's speed at 65-197 tokens); sounds
#: and clips have a thousand tokens and more, where the fused kernel is faster and keeps no matrix of all pairs.
ATTENTION = {"text": "eager", "image": "eager"}


class Backbone(nn.Module):
    """The encoder of a checkpoint, built from its card alone; `load` takes over its weights.

    part: which part of a model with several is meant: `text`, `image`, `audio`, `video`, or one of
        `parts.NETWORKS`
    depth: number of its layers; `cut`: how many of them, from the bottom, do not learn (all: nothing does)
    width: of its hidden states; `embedding`: of its projection into a space shared with another modality, if it has one
    """

    def __init__(self, card: Card, part: str) -> None:
        super().__init__()
        self.card, self.part = card, part
        self.model: Any = weights.build(card, part, ATTENTION.get(part))
        self.model.requires_grad_(False)
        self.width: int = width_of(self.model.config)
        self._layers = layers_of(self.model)
        self.depth: int = max(1, len(self.layers))
        self.cut = self.depth
        projection = getattr(self.model, "projection", None)
        last = [one for one in projection.modules() if isinstance(one, nn.Linear)] if projection is not None else []
        self.embedding: int | None = last[-1].out_features if last else None
        self._traces: dict[tuple[Any, ...], Trace] = {}
        self._settled: int | None = None

    @property
    def layers(self) -> list[nn.Module]:
        """Its layers (of hierarchical networks: stages or blocks), from the bottom."""
        return self._layers

    def load(self) -> None:
        """Take over the weights of the checkpoint.

        Raises:
            RecipeError: they cannot be reached, or do not fit its configuration.
        """
        weights.load(self.model, self.card, self.part)

    def train(self, mode: bool = True) -> Backbone:
        """Only what learns is ever in training mode: below the cut, no dropout and no new batch statistics."""
        if self.cut == 0:
            super().train(mode)
            return self
        if self._settled != self.cut:  # once: there may be thousands of modules
            super().train(False)
            self._settled = self.cut
        learning = self.layers[self.cut :]
        for layer in learning:
            layer.train(mode)
        self.training = mode and bool(learning)
        return self

    def whole(self, inputs: dict[str, Tensor]) -> Any:
        """The model's own output for its own inputs (`input_ids`, `pixel_values` ...)."""
        return self.model(**inputs)

    def lower(self, inputs: dict[str, Tensor]) -> Tensor:
        """The hidden states `[items, length, n]` that go into layer `cut`; maps have their places as `length`."""
        hidden = cutting.lower(self.model, self.listed(), self.cut, inputs)
        return hidden if hidden.ndim == 3 else hidden.flatten(2).transpose(1, 2)

    def upper(self, hidden: Tensor, inputs: dict[str, Tensor]) -> Any:
        """The model's own output, from the hidden states that go into layer `cut` on.

        inputs: of the same shapes as in `lower`; their values may be anything but for masks
        """
        trace = self.trace(inputs)
        if len(trace.hidden) > 2:
            hidden = hidden.transpose(1, 2).reshape(len(hidden), *trace.hidden)
        return cutting.upper(self.model, self.listed(), self.cut, hidden, inputs, trace)

    def lengths(self, inputs: dict[str, Tensor], longest: int) -> Tensor:
        """How many of the hidden states of each item are real, `[items]`."""
        mask = inputs.get("attention_mask")
        if mask is None:
            items = inputs[self.model.main_input_name]
            return torch.full((len(items),), longest, dtype=torch.int64, device=items.device)
        length = mask.sum(1)
        if hasattr(self.model, "_get_feat_extract_output_lengths"):
            length = self.model._get_feat_extract_output_lengths(length)
        return length.long().clamp(1, longest)

    @property
    def cut_width(self) -> int:
        """n of the hidden states `[items, length, n]` at the cut."""
        shape = self.trace().hidden
        return shape[-1] if len(shape) == 2 else shape[0]

    @property
    def cuttable(self) -> bool:
        """Whether its layers run one after another, so that it can be cut between them."""
        try:
            self.trace()
        except RecipeError:
            return False
        return True

    def above(self) -> list[nn.Module]:
        """The modules that run only after the last layer: a final norm, a pooling head, a projection."""
        return [self.model.get_submodule(name) for name in self.trace().above]

    def checkpoint_gradients(self) -> None:
        """Compute the layers above the cut again for their gradient in place of keeping what they made.

        Raises:
            RecipeError: the architecture is not made for it.
        """
        from transformers.modeling_layers import GradientCheckpointingLayer

        inside = [module for layer in self.listed()[self.cut :] for module in layer.modules()]
        if not any(isinstance(module, GradientCheckpointingLayer) for module in inside):
            raise RecipeError("checkpointing", f"the network of {self.card.model} cannot do it")
        model = getattr(self.model, "tower", self.model)
        model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})

    def trace(self, inputs: dict[str, Tensor] | None = None) -> Trace:
        """How the network runs on inputs of these shapes; silent: of the shape that its configuration speaks of."""
        given = example(self.model, ITEMS) if inputs is None else inputs
        main = given[self.model.main_input_name]
        key = (self.cut, *(main.shape[1:] if self.model.main_input_name != "input_ids" else ()))
        if key not in self._traces:
            training = self.training
            self.eval()
            self._traces[key] = run_without_content(self.model, self.listed(), self.cut, given)
            self.train(training)
        return self._traces[key]

    def listed(self) -> list[nn.Module]:
        """Its layers.

        Raises:
            RecipeError: it has no list of them.
        """
        layers = self.layers
        if not layers:
            raise RecipeError("tune", f"{self.card.model} has no list of layers to cut between; frozen or full")
        return layers
