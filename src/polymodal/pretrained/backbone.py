"""The network of a checkpoint, split below its lowest trainable layer."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from polymodal.core.errors import RecipeError
from polymodal.pretrained import layer_split, weights
from polymodal.pretrained.architecture import example_inputs, find_layers, hidden_width
from polymodal.pretrained.checkpoint_config import CheckpointConfig
from polymodal.pretrained.shape_trace import TRACE_BATCH, ShapeTrace, trace_shapes
from polymodal.runtime.meta_parameters import meta_parameters

#: Attention implementation by part. Texts and images are short sequences, for which explicit matrix products are faster
#: on a CPU than the fused kernel (training in bf16: 1.3-1.4 times the speed of fp32, fused 0.24-0.75 times, at 65-197
#: tokens). Audio and video have a thousand tokens or more, for which the fused kernel is faster and needs less memory.
ATTENTION_IMPLEMENTATIONS = {"text": "eager", "image": "eager"}


class Backbone(nn.Module):
    """The encoder of a checkpoint, built from its configuration files; `load` loads its weights.

    part: the submodel to use: `text`, `image`, `audio`, `video`, or a key of `architecture.AUTO_CLASSES`
    num_layers: number of layers
    split_index: number of frozen layers at the input; equal to `num_layers` if the whole network is frozen
    width: width of its hidden states
    embedding_dim: dimension of its projection into a space shared with another modality; None without one
    """

    def __init__(self, checkpoint: CheckpointConfig, part: str, *, is_quantized: bool = False) -> None:
        """
        is_quantized: whether `apply_fine_tuning` quantizes layers. The parameters have no memory until then, so that
            all of them never need it in fp32
        """
        super().__init__()
        self.checkpoint, self.part = checkpoint, part
        with meta_parameters() if is_quantized else nullcontext():
            self.model: Any = weights.build_network(checkpoint, part, ATTENTION_IMPLEMENTATIONS.get(part))
        if not is_quantized:
            values = weights.InitialValues()
            for name, parameter in self.model.named_parameters():
                values.fill(name, parameter)
        self.model.requires_grad_(False)
        self.width: int = hidden_width(self.model.config)
        self._layers = find_layers(self.model)
        self.num_layers: int = max(1, len(self.layers))
        self.split_index = self.num_layers
        projection = getattr(self.model, "projection", None)
        linear = (
            [module for module in projection.modules() if isinstance(module, nn.Linear)]
            if projection is not None
            else []
        )
        self.embedding_dim: int | None = linear[-1].out_features if linear else None
        self._traces: dict[tuple[Any, ...], ShapeTrace] = {}
        self._eval_split: int | None = None

    @property
    def layers(self) -> list[nn.Module]:
        """The layers (of hierarchical networks: stages or blocks), from input to output."""
        return self._layers

    def load(self) -> None:
        """Load the weights of the checkpoint.

        Raises:
            RecipeError: the weights are not available, or do not match the configuration.
        """
        weights.load_weights(self.model, self.checkpoint, self.part)

    def train(self, mode: bool = True) -> Backbone:
        """Set only trainable layers to training mode: below the split, no dropout and no update of batch statistics."""
        if self.split_index == 0:
            super().train(mode)
            return self
        if self._eval_split != self.split_index:  # once: there may be thousands of modules
            super().train(False)
            self._eval_split = self.split_index
        trainable = self.layers[self.split_index :]
        for layer in trainable:
            layer.train(mode)
        self.training = mode and bool(trainable)
        return self

    def forward_full(self, inputs: dict[str, Tensor]) -> Any:
        """The output of the model for its inputs (`input_ids`, `pixel_values` ...)."""
        return self.model(**inputs)

    def forward_lower(self, inputs: dict[str, Tensor]) -> Tensor:
        """The input of layer `split_index`: hidden states `[items, length, n]`; feature maps are flattened to
        `length`."""
        hidden = layer_split.run_lower(self.model, self.layer_list(), self.split_index, inputs)
        return hidden if hidden.ndim == 3 else hidden.flatten(2).transpose(1, 2)

    def forward_upper(self, hidden: Tensor, inputs: dict[str, Tensor]) -> Any:
        """The output of the model, computed from the input of layer `split_index` on.

        inputs: of the same shapes as in `forward_lower`; only the values of masks are used
        """
        trace = self.shape_trace(inputs)
        if len(trace.hidden_shape) > 2:
            hidden = hidden.transpose(1, 2).reshape(len(hidden), *trace.hidden_shape)
        return layer_split.run_upper(self.model, self.layer_list(), self.split_index, hidden, inputs, trace)

    def valid_lengths(self, inputs: dict[str, Tensor], longest: int) -> Tensor:
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
    def split_width(self) -> int:
        """n of the hidden states `[items, length, n]` at the split."""
        shape = self.shape_trace().hidden_shape
        return shape[-1] if len(shape) == 2 else shape[0]

    @property
    def is_splittable(self) -> bool:
        """Whether the layers run in sequence, so that the network can be split between them."""
        try:
            self.shape_trace()
        except RecipeError:
            return False
        return True

    def output_modules(self) -> list[nn.Module]:
        """The modules that run only after the last layer: final norm, pooling head, projection."""
        return [self.model.get_submodule(name) for name in self.shape_trace().output_modules]

    def enable_gradient_checkpointing(self) -> None:
        """Enable gradient checkpointing in the layers above the split.

        Raises:
            RecipeError: the architecture does not support it.
        """
        from transformers.modeling_layers import GradientCheckpointingLayer

        inside = [module for layer in self.layer_list()[self.split_index :] for module in layer.modules()]
        if not any(isinstance(module, GradientCheckpointingLayer) for module in inside):
            raise RecipeError("gradient_checkpointing", f"the network of {self.checkpoint.name} does not support it")
        model = getattr(self.model, "tower", self.model)
        model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})

    def shape_trace(self, inputs: dict[str, Tensor] | None = None) -> ShapeTrace:
        """The shape trace of the network on inputs of these shapes. Default: the shape in its configuration."""
        inputs = example_inputs(self.model, TRACE_BATCH) if inputs is None else inputs
        main = inputs[self.model.main_input_name]
        key = (self.split_index, *(main.shape[1:] if self.model.main_input_name != "input_ids" else ()))
        if key not in self._traces:
            training = self.training
            self.eval()
            self._traces[key] = trace_shapes(self.model, self.layer_list(), self.split_index, inputs)
            self.train(training)
        return self._traces[key]

    def layer_list(self) -> list[nn.Module]:
        """The layers.

        Raises:
            RecipeError: the network has no module list of layers.
        """
        layers = self.layers
        if not layers:
            raise RecipeError("fine_tuning", f"{self.checkpoint.name} has no list of layers; use `freeze` or `full`")
        return layers
