"""The encoder of images with a pretrained checkpoint."""

from __future__ import annotations

import inspect
import math
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from polymodal.core.errors import RecipeError
from polymodal.core.registry import register
from polymodal.data.media.image_preprocessing import ImagePreprocessing
from polymodal.nn.encoders.position_embedding import grid_positions
from polymodal.nn.encoders.pretrained import PretrainedEncoder, PretrainedOptions
from polymodal.nn.encoders.token_pooling import average_tokens
from polymodal.pretrained.multimodal_parts import ImageFeatures
from polymodal.runtime.host_reads import device_constant


@register
class PretrainedImage(PretrainedEncoder):
    """A pretrained image network: a Transformer over patches (ViT, DeiT, BEiT, DINO, the image tower of CLIP and
    SigLIP, Swin), a convolutional network (ResNet, ConvNeXt, EfficientNet), or the image tower of a multimodal language
    model with its connector (LLaVA, VipLLaVA, Gemma 3).

    Its input is `(x * rescale - mean) / std` of the 8-bit pixels x, as in the image processor of the checkpoint.

    The pooled output (`max_tokens: 1`) is the first of these that the network has:

    - the embedding in the common space with texts (CLIP)
    - the pooled output of the network: the mean over positions (ResNet, EfficientNet, Swin), possibly normalized
      (ConvNeXt, BEiT), the class token (DINO), or attention pooling (SigLIP)
    - the class token (ViT, DeiT: their dense layer `tanh(W x + b)` over the class token is removed, since it was
      trained for another task or not at all)
    - the mean of all tokens

    Otherwise the tokens are those of the image positions in row-major order, without class, register and distillation
    tokens.

    Raises:
        RecipeError: the network does not read images of the size in its preprocessor configuration, or masks parts of
            each image at random.
    """

    class Options(PretrainedOptions):
        name: Literal["pretrained_image"] = "pretrained_image"
        position_embedding: Literal["none", "sincos"] = "none"
        """Add a fixed sinusoidal embedding of row and column to each token (`sincos`). The tokens of convolutional
        networks hardly encode their position, so later layers cannot distinguish left from right without it. Only with
        `max_tokens: null`."""

    modality: ClassVar[str] = "image"

    def __init__(self, options: Options, *, shape: dict[str, Any], width: int) -> None:
        super().__init__(options, shape=shape, width=width)
        self.geometry = geometry = ImagePreprocessing.from_config(self.checkpoint.preprocessor, self.checkpoint.config)
        tower: Any = getattr(self.backbone.model, "tower", self.backbone.model)
        _check_image_size(tower, geometry)
        if isinstance(self.backbone.model, ImageFeatures) and options.fine_tuning != "freeze":
            raise RecipeError(
                "fine_tuning",
                f"the image tower of {self.checkpoint.name}, a multimodal language model, can only be frozen; set "
                "fine_tuning: freeze here, and fine-tune its language model with the decoder causal_lm",
            )
        self.num_patches = _count_patches(tower.config, geometry)
        self.positions = options.position_embedding
        if options.position_embedding != "none" and options.max_tokens is not None:
            raise RecipeError(
                "position_embedding", "a single token and averaged tokens have no position; set max_tokens to null"
            )

    def forward(self, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        tokens, mask = super().forward(data)
        if self.positions == "none":
            return tokens, mask
        return tokens + self._grid(tokens.shape[1]).to(tokens), mask

    def _grid(self, length: int) -> Tensor:
        """The position embedding of `length` tokens that cover the image in row-major order, `[length, width]`."""
        rows = round(math.sqrt(length * self.geometry.height / self.geometry.width))
        if rows == 0 or length % rows:
            raise RecipeError("position_embedding", f"the {length} tokens of this checkpoint do not form a grid")
        return grid_positions(rows, length // rows, self.width)

    def token_grid(self, length: int) -> tuple[int, int] | None:
        """The square of the tokens; None if they are pooled or averaged."""
        side = math.isqrt(length)
        return (side, side) if self.options.max_tokens is None and side * side == length else None

    def prepare_inputs(self, data: dict[str, Tensor]) -> dict[str, Tensor]:
        """`pixel_values [items, 3, height, width]` from `pixels` uint8, in the same memory format."""
        return {"pixel_values": normalize_pixels(data["pixels"], self.geometry)}

    def extract_tokens(self, output: Any, inputs: dict[str, Tensor], data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        hidden: Tensor = output.last_hidden_state
        extra = 0
        if hidden.dim() == 4:
            hidden = hidden.flatten(2).transpose(1, 2)
        else:  # a hierarchical network has fewer tokens than patches; they form a square
            length = hidden.shape[1]
            extra = length - (
                self.num_patches if self.num_patches and length >= self.num_patches else math.isqrt(length) ** 2
            )
        tokens = self._pooled(output, hidden, extra) if self.options.max_tokens == 1 else hidden[:, extra:]
        mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        if self.options.max_tokens is not None:
            tokens, mask = average_tokens(tokens, mask, self.options.max_tokens)
        return tokens, mask

    def _pooled(self, output: Any, hidden: Tensor, extra: int) -> Tensor:
        for name in ("image_embeds", "pooler_output"):
            found = getattr(output, name, None)
            if found is not None:
                return found.flatten(1).unsqueeze(1)
        return hidden[:, :1] if extra else hidden.mean(1, keepdim=True)


def normalize_pixels(pixels: Tensor, geometry: ImagePreprocessing) -> Tensor:
    """`(pixels * rescale - mean) / std` of `pixels [items, 3, height, width]` uint8, fp32 in the same memory format."""
    mean, std = (device_constant(one, pixels.device).view(3, 1, 1) for one in (geometry.mean, geometry.std))
    return pixels.float().mul_(geometry.rescale).sub_(mean).div_(std)


def _check_image_size(tower: Any, geometry: ImagePreprocessing) -> None:
    """Reject networks that do not read whole images of this size: those with learned position embeddings of another
    image size, and those that mask patches.

    Networks that always interpolate their position embeddings (DINO) do not have the argument
    `interpolate_pos_encoding`. Masked autoencoders mask patches in every forward pass.
    """
    if getattr(tower.config, "mask_ratio", 0):
        raise RecipeError(
            "checkpoint",
            f"a {tower.config.model_type} masks parts of each image at random in every forward pass; save "
            "its encoder as a ViTModel and use that folder",
        )
    fixed = "interpolate_pos_encoding" in inspect.signature(tower.forward).parameters
    size, given = _pair(getattr(tower.config, "image_size", None)), (geometry.height, geometry.width)
    if fixed and size not in (None, given):
        raise RecipeError(
            "checkpoint",
            f"its network reads images of {size} (height, width), but its preprocessor_config.json resizes them "
            f"to {given}",
        )


def _count_patches(config: Any, geometry: ImagePreprocessing) -> int | None:
    """The number of patches per image; None if the network has no patches."""
    patch = _pair(getattr(config, "patch_size", None))
    return None if patch is None else (geometry.height // patch[0]) * (geometry.width // patch[1])


def _pair(size: Any) -> tuple[int, int] | None:
    if size is None or isinstance(size, int):
        return None if size is None else (size, size)
    height, width = size
    return height, width
