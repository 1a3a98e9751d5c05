"""Multimodal language models: the families of checkpoints that are supported.

A family is described by data alone, so that a further one is a line in `FAMILIES`. Its images have one size, and each
image becomes the same number of tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from polymodal.core.errors import RecipeError
from polymodal.pretrained.checkpoint_config import CheckpointConfig


@dataclass(frozen=True)
class MultimodalFamily:
    """How a family of checkpoints writes an image into a prompt.

    placeholder: the text that its chat template writes for an image
    token: the token that stands for one feature of an image
    length: the number of features of an image, from the configuration
    begin, end: the control tokens around the tokens of an image; "" without them
    margin: the text around these
    is_bidirectional: whether the tokens of an image attend to each other in both directions
    """

    placeholder: str
    token: str
    length: Callable[[Any], int]
    begin: str = ""
    end: str = ""
    margin: str = ""
    is_bidirectional: bool = False

    def image_text(self, length: int) -> str:
        """The text of one image with `length` features in a prompt."""
        return f"{self.margin}{self.begin}{self.token * length}{self.end}{self.margin}"


def _num_patches(config: Any) -> int:
    """The number of patches of an image, and its class token if `vision_feature_select_strategy` keeps it."""
    vision = config.vision_config
    strategy = getattr(config, "vision_feature_select_strategy", "default")
    return int((vision.image_size // vision.patch_size) ** 2) + int(strategy == "full")


def _tokens_per_image(config: Any) -> int:
    return int(config.mm_tokens_per_image)


#: The supported families, by `model_type`.
FAMILIES = {
    "llava": MultimodalFamily("<image>", "<image>", _num_patches),
    "vipllava": MultimodalFamily("<image>", "<image>", _num_patches),
    "gemma3": MultimodalFamily(
        "<start_of_image>",
        "<image_soft_token>",
        _tokens_per_image,
        begin="<start_of_image>",
        end="<end_of_image>",
        margin="\n\n",
        is_bidirectional=True,
    ),
}


def is_multimodal(checkpoint: CheckpointConfig) -> bool:
    """Whether the checkpoint is a multimodal language model of a supported family."""
    return checkpoint.config.get("model_type") in FAMILIES


@dataclass(frozen=True)
class ImageSlot:
    """The place of an image in a prompt.

    family: facts about the family of the checkpoint
    length: number of tokens of an image
    token_id: id of the token that stands for one feature
    """

    family: MultimodalFamily
    length: int
    token_id: int


def image_slot(checkpoint: CheckpointConfig) -> ImageSlot:
    """The place of an image in a prompt of this checkpoint.

    Raises:
        RecipeError: the checkpoint is not a multimodal language model of a supported family.
    """
    kind = str(checkpoint.config.get("model_type"))
    if kind not in FAMILIES:
        problem = f"{checkpoint.name}, a {kind}, is not a supported multimodal language model"
        raise RecipeError("checkpoint", f"{problem}; supported are {', '.join(FAMILIES)}")
    from transformers import AutoConfig

    values = {key: value for key, value in checkpoint.config.items() if key != "model_type"}
    config: Any = AutoConfig.for_model(kind, **values)
    return ImageSlot(FAMILIES[kind], FAMILIES[kind].length(config), int(config.image_token_id))
