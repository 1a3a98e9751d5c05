"""Images in the chat template of a multimodal language model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from polymodal.core.errors import RecipeError
from polymodal.core.types import FusionOutput, Tokens
from polymodal.nn.decoders.causal_lm_state import PromptContext
from polymodal.nn.encoders.base import Encoder
from polymodal.nn.encoders.pretrained import PretrainedEncoder
from polymodal.pretrained.language_model import LanguageModel
from polymodal.pretrained.multimodal import image_slot


class ImageSlots:
    """The context of a multimodal language model (LLaVA: Liu et al., "Visual Instruction Tuning", 2023; VipLLaVA: Cai
    et al., 2024; Gemma 3, 2025), as the checkpoint itself computes it.

    The task writes the prompt with the chat template of the checkpoint, in which each image has one token for each of
    its features. The features, from the checkpoint's own tower and connector, replace the word embeddings of these
    tokens. The tokens of an image that a row lacks are left out, with the control tokens around them. Other inputs are
    not read. Gemma 3 attends within an image in both directions.

    Raises:
        RecipeError: the checkpoint is not of a supported family.
    """

    def __init__(self, images: Sequence[str], language: LanguageModel) -> None:
        self.images, self.language = list(images), language
        self.slot = image_slot(language.checkpoint)

    def check_encoders(self, encoders: Mapping[str, Encoder]) -> None:
        """Check that the checkpoint's own tower encodes each image.

        Raises:
            RecipeError: it does not, or there is no such input.
        """
        card = self.language.checkpoint
        for name in self.images:
            if name not in encoders:
                raise RecipeError("images", f"unknown input {name!r}; the inputs are {', '.join(encoders) or 'none'}")
            encoder = encoders[name]
            is_own = isinstance(encoder, PretrainedEncoder) and encoder.checkpoint.source == card.source
            if not isinstance(encoder, PretrainedEncoder) or not is_own or encoder.modality != "image":
                advice = f"pretrained_image with checkpoint: {card.name} and max_tokens: null"
                raise RecipeError("images", f"{name!r} is not encoded by the checkpoint's own tower; set {advice}")
            if encoder.options.max_tokens is not None:
                problem = f"this decoder needs all tokens of {name!r}"
                raise RecipeError("images", f"{problem}; set max_tokens: null in its encoder")

    def context(self, fused: FusionOutput, prompt: Tensor, bos_id: int) -> PromptContext:
        """Begin token and prompt, in which features take the place of the tokens of images."""
        is_image = prompt == self.slot.token_id
        words = prompt.clamp_min(0).masked_fill(is_image, 0)
        first = prompt.new_full((len(prompt), 1), bos_id)
        embedded = self.language.embed(torch.cat([first, words], dim=1))
        mask = torch.cat([torch.ones_like(first, dtype=torch.bool), prompt >= 0], dim=1)
        if not prompt.shape[1]:
            return PromptContext(embedded, mask, [])
        features, missing = self._features(fused, embedded)
        place = (is_image.cumsum(1) - 1).clamp(0, features.shape[1] - 1)  # the number of the feature, of all images
        at_place = features.gather(1, place.unsqueeze(-1).expand(-1, -1, features.shape[2]))
        image = place // self.slot.length
        is_left_out = self._with_control_tokens(is_image & missing.gather(1, image))
        read = torch.where(is_image.unsqueeze(-1), at_place, embedded[:, 1:])
        embedded = torch.cat([embedded[:, :1], read], dim=1)
        mask = torch.cat([mask[:, :1], mask[:, 1:] & ~is_left_out], dim=1)
        if not self.slot.family.is_bidirectional:
            return PromptContext(embedded, mask, [])
        blocks = torch.where(is_image, image, -1)
        return PromptContext(embedded, mask, [], torch.cat([torch.full_like(first, -1), blocks], dim=1))

    def _features(self, fused: FusionOutput, embedded: Tensor) -> tuple[Tensor, Tensor]:
        """The features of all images of each row, `[batch, images * length, width]`, and which images are missing,
        `[batch, images]`."""
        features, missing = [], []
        for name in self.images:
            if name not in fused.input_tokens:
                problem = f"the fusion has a branch per input, and the branch {fused.name!r} lacks {name!r}"
                raise RecipeError("fusion", f"{problem}; use a feature-level fusion, e.g. concat")
            output: Tokens | None = fused.encoder_outputs.get(name)
            if output is None:  # no row of this batch has the image
                features.append(embedded.new_zeros(len(embedded), self.slot.length, embedded.shape[2]))
            elif output.features.shape[1] != self.slot.length:
                found = f"{output.features.shape[1]} features, but its slot has {self.slot.length} tokens"
                raise RecipeError("images", f"an image of {name!r} has {found}: its files contradict each other")
            else:
                features.append(output.features.to(embedded.dtype))
            missing.append(~fused.input_tokens[name].present)
        return torch.cat(features, dim=1), torch.stack(missing, dim=1)

    def _with_control_tokens(self, is_left_out: Tensor) -> Tensor:
        """The same positions `[batch, length]` with the control tokens around each image."""
        grown = is_left_out.clone()
        if self.slot.family.begin:
            grown[:, :-1] |= is_left_out[:, 1:]
        if self.slot.family.end:
            grown[:, 1:] |= is_left_out[:, :-1]
        return grown
