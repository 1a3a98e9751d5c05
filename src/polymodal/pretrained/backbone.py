"""The network of a checkpoint, cut in two at the lowest layer that learns."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from polymodal.pretrained.card import Card
from polymodal.pretrained.source import weights_folder


class Backbone(nn.Module):
    """The encoder of a checkpoint, built from its card alone; `load` takes over its weights.

    part: which part of a model with several is meant: `text`, `image`, `audio` or `video`
    depth: number of its layers; `cut`: how many of them, from the bottom, do not learn (all: nothing does)
    width: of its hidden states
    """

    def __init__(self, card: Card, part: str) -> None:
        from transformers import AutoConfig, AutoModel

        super().__init__()
        self.card, self.part = card, part
        values = card.config
        config = AutoConfig.for_model(values.pop("model_type"), **values)
        self.model: Any = AutoModel.from_config(config)  # type: ignore[no-untyped-call]
        self.model.requires_grad_(False)
        self.width: int = config.hidden_size
        self.depth: int = config.num_hidden_layers
        self.cut = self.depth

    def load(self) -> None:
        """Take over the weights of the checkpoint.

        Raises:
            RecipeError: they cannot be reached, or do not fit its configuration.
        """
        from transformers import AutoModel

        found = AutoModel.from_pretrained(weights_folder(self.card), dtype=torch.float32, local_files_only=True)
        self.model.load_state_dict(found.state_dict())

    def whole(self, inputs: dict[str, Tensor]) -> Any:
        """The model's own output for its own inputs (`input_ids`, `pixel_values` ...)."""
        return self.model(**inputs)

    def lower(self, inputs: dict[str, Tensor]) -> Tensor:
        """The hidden states `[items, length, n]` that go into layer `cut`."""
        raise NotImplementedError

    def upper(self, hidden: Tensor, inputs: dict[str, Tensor]) -> Any:
        """The model's own output, from the hidden states that go into layer `cut` on.

        inputs: of the same shapes as in `lower`; their values may be anything but for masks
        """
        raise NotImplementedError
