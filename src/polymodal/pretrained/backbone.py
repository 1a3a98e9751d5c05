"""The network of a checkpoint, split below its lowest trainable layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from polymodal.core.errors import RecipeError
from polymodal.pretrained import layer_split
from polymodal.pretrained import weights
from polymodal.pretrained.checkpoint_config import Card
from polymodal.pretrained.architecture import example, layers_of, width_of
from polymodal.pretrained.shape_trace import ITEMS, Trace, run_without_content

#: Attention implementation by part. Texts and images are short sequences, for which explicit matrix products are faster
#: on a CPU than the fused kernel (training in bf16: 1.3-1.4 times the speed of fp32, fused 0.24-0.75 times, at 65-197
#: tokens). Audio and video have a thousand tokens or more, for which the fused kernel is faster and needs less memory.
ATTENTION = {"text": "eager", "image": "eager"}


class Backbone(nn.Module):
    """The encoder of a checkpoint, built from its configuration files; `load` loads its weights.

    part: the submodel to use: `text`, `image`, `audio`, `video`, or a key of `architecture.AUTO_CLASSES`
    num_layers: number of layers
    split_index: number of frozen layers at the input; equal to `num_layers` if the whole network is frozen
    width: width of its hidden states
    embedding_dim: dimension of its projection into a space shared with another modality; None without one
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
        """The layers (of hierarchical networks: stages or blocks), from input to output."""
        return self._layers

    def load(self) -> None:
        """Load the weights of the checkpoint.

        Raises:
            RecipeError: the weights are not available, or do not match the configuration.
        """
        weights.load(self.model, self.card, self.part)

    def train(self, mode: bool = True) -> Backbone:
        """Set only trainable layers to training mode: below the split, no dropout and no update of batch statistics."""
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
        """The output of the model for its inputs (`input_ids`, `pixel_values` ...)."""
        return self.model(**inputs)

    def lower(self, inputs: dict[str, Tensor]) -> Tensor:
        """The input of layer `split_index`: hidden states `[items, length, n]`; feature maps are flattened to `length`.
        """
        hidden = layer_split.lower(self.model, self.listed(), self.cut, inputs)
        return hidden if hidden.ndim == 3 else hidden.flatten(2).transpose(1, 2)

    def upper(self, hidden: Tensor, inputs: dict[str, Tensor]) -> Any:
        """The output of the model, computed from the input of layer `split_index` on.

        inputs: of the same shapes as in `forward_lower`; only the values of masks are used
        """
        trace = self.trace(inputs)
        if len(trace.hidden) > 2:
            hidden = hidden.transpose(1, 2).reshape(len(hidden), *trace.hidden)
        return layer_split.upper(self.model, self.listed(), self.cut, hidden, inputs, trace)

    def lengths(self, inputs: dict[str, Tensor], longest: int) -> Tensor:
        """The number of real hidden states of each item, `[items]`."""
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
        """n of the hidden states `[items, length, n]` at the split."""
        shape = self.trace().hidden
        return shape[-1] if len(shape) == 2 else shape[0]

    @property
    def cuttable(self) -> bool:
        """Whether the layers run in sequence, so that the network can be split between them."""
        try:
            self.trace()
        except RecipeError:
            return False
        return True

    def above(self) -> list[nn.Module]:
        """The modules that run only after the last layer: final norm, pooling head, projection."""
        return [self.model.get_submodule(name) for name in self.trace().above]

    def checkpoint_gradients(self) -> None:
        """Enable gradient checkpointing in the layers above the split.

        Raises:
            RecipeError: the architecture does not support it.
        """
        from transformers.modeling_layers import GradientCheckpointingLayer

        inside = [module for layer in self.listed()[self.cut :] for module in layer.modules()]
        if not any(isinstance(module, GradientCheckpointingLayer) for module in inside):
            raise RecipeError("gradient_checkpointing", f"the network of {self.card.model} does not support it")
        model = getattr(self.model, "tower", self.model)
        model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})

    def trace(self, inputs: dict[str, Tensor] | None = None) -> Trace:
        """The shape trace of the network on inputs of these shapes. Default: the shape in its configuration."""
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
        """The layers.

        Raises:
            RecipeError: the network has no module list of layers.
        """
        layers = self.layers
        if not layers:
            raise RecipeError("fine_tuning", f"{self.card.model} has no list of layers; use `freeze` or `full`")
        return layers
