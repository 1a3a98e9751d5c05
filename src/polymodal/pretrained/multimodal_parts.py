"""The two parts of the network of a multimodal language model: images to features, and features to texts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class ImageFeatures(nn.Module):
    """The image tower of a multimodal language model with its connector, without the language model.

    The output has `last_hidden_state [items, length, width]`: the features in place of the words of the language model.
    """

    main_input_name = "pixel_values"

    def __init__(self, model: Any) -> None:
        super().__init__()
        decoder = model.get_decoder()
        for name, child in list(model.named_children()):
            if child is decoder:
                setattr(model, name, None)
        self.model = model
        self.config = model.config.get_text_config()

    @property
    def tower(self) -> Any:
        """The image tower without the connector."""
        return self.model.vision_tower

    def forward(self, pixel_values: Tensor) -> Any:
        """Features of `pixel_values [items, 3, height, width]`."""
        from transformers import modeling_outputs as untyped

        outputs: Any = untyped
        features = self.model.get_image_features(pixel_values=pixel_values, return_dict=True).pooler_output
        stacked = features if isinstance(features, Tensor) else torch.stack(list(features))
        return outputs.BaseModelOutput(last_hidden_state=stacked)


class LanguagePart(nn.Module):
    """The language model of a multimodal language model with its head, without the image tower."""

    main_input_name = "input_ids"

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.tower, self.head = model.get_decoder(), model.get_output_embeddings()
        self.config = self.tower.config

    @property
    def base_model(self) -> Any:
        """The network without the head."""
        return self.tower

    def get_input_embeddings(self) -> Any:
        """The word embeddings."""
        return self.tower.get_input_embeddings()

    def get_output_embeddings(self) -> Any:
        """The head."""
        return self.head
