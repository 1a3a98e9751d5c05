"""Image networks with a pretrained checkpoint."""

from __future__ import annotations

import inspect
import math
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from polymodal.core.errors import RecipeError
from polymodal.core.registry import register
from polymodal.data.media.image_geometry import Geometry
from polymodal.nn.encoders.positions import grid_positions
from polymodal.nn.encoders.pretrained import PretrainedEncoder, PretrainedOptions
from polymodal.nn.encoders.tokens import average_tokens


@register
class PretrainedImage(PretrainedEncoder):
    """A network over images as its checkpoint has it: a Transformer over patches (ViT, DeiT, BEiT, DINO, the image side
    of CLIP and SigLIP, Swin) or a convolutional network (ResNet, ConvNeXt, EfficientNet).

    It reads `(x * rescale - mean) / std` of the 8-bit pixels x, as the checkpoint's own processor has them.

    Its summary of an image is, where there are both, the embedding that texts are compared with (CLIP, SigLIP). Else it
    is what the network itself pools: the mean over places (ResNet, EfficientNet, Swin), perhaps normalised (ConvNeXt,
    BEiT), a class token (DINO), or what attention gathers (SigLIP). Where it pools by a layer that was trained for
    another task, or not at all (ViT, DeiT: `tanh(W x + b)` of the class token), that is left out, and the summary is
    the class token. Else it is the mean of all tokens. The other tokens are those of places, row by row: class,
    register and distillation tokens are not among them.

    Raises:
        RecipeError: the network does not read images of the size that its files say they are brought to, or hides
            parts of them at random.
    """

    class Options(PretrainedOptions):
        name: Literal["pretrained_image"] = "pretrained_image"
        positions: Literal["none", "sincos"] = "none"
        """Add fixed sines and cosines of its row and column to each token. The tokens of convolutional networks hardly
        tell where they lie, so that nothing that reads them could tell left from right. Only with `tokens: null`."""

    modality: ClassVar[str] = "image"

    def __init__(self, options: Options, *, shape: dict[str, Any], width: int) -> None:
        super().__init__(options, shape=shape, width=width)
        self.geometry = geometry = Geometry.of(self.card.preprocessor, self.card.config)
        tower: Any = getattr(self.backbone.model, "tower", self.backbone.model)
        _check_reads(tower, geometry)
        self.places = _places(tower.config, geometry)
        self.positions = options.positions
        if options.positions != "none" and options.tokens is not None:
            raise RecipeError("positions", "one token, or averages of neighbours, have no place; set tokens to null")

    def forward(self, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        tokens, mask = super().forward(data)
        if self.positions == "none":
            return tokens, mask
        return tokens + self._grid(tokens.shape[1]).to(tokens), mask

    def _grid(self, length: int) -> Tensor:
        """The positions of `length` tokens that cover the picture row by row, `[length, width]`."""
        rows = round(math.sqrt(length * self.geometry.height / self.geometry.width))
        if rows == 0 or length % rows:
            raise RecipeError("positions", f"the {length} tokens of this checkpoint are no rows and columns of a grid")
        return grid_positions(rows, length // rows, self.width)

    def inputs(self, data: dict[str, Tensor]) -> dict[str, Tensor]:
        """`pixel_values [items, 3, height, width]` of `pixels` uint8, in the same memory format."""
        return {"pixel_values": numbers(data["pixels"], self.geometry)}

    def read(self, output: Any, inputs: dict[str, Tensor], data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        hidden: Tensor = output.last_hidden_state
        extra = 0
        if hidden.dim() == 4:
            hidden = hidden.flatten(2).transpose(1, 2)
        else:  # what a network cuts more coarsely in its higher layers is a square still
            length = hidden.shape[1]
            extra = length - (self.places if self.places and length >= self.places else math.isqrt(length) ** 2)
        tokens = self._summary(output, hidden, extra) if self.options.tokens == 1 else hidden[:, extra:]
        mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        if self.options.tokens is not None:
            tokens, mask = average_tokens(tokens, mask, self.options.tokens)
        return tokens, mask

    def _summary(self, output: Any, hidden: Tensor, extra: int) -> Tensor:
        for name in ("image_embeds", "pooler_output"):
            found = getattr(output, name, None)
            if found is not None:
                return found.flatten(1).unsqueeze(1)
        return hidden[:, :1] if extra else hidden.mean(1, keepdim=True)


def numbers(pixels: Tensor, geometry: Geometry) -> Tensor:
    """`(pixels * rescale - mean) / std` of `pixels [items, 3, height, width]` uint8, fp32 in the same memory format."""
    mean, std = (torch.tensor(one, device=pixels.device).view(3, 1, 1) for one in (geometry.mean, geometry.std))
    return pixels.float().mul_(geometry.rescale).sub_(mean).div_(std)


def _check_reads(tower: Any, geometry: Geometry) -> None:
    """Refuse networks that do not read whole images of this size: those with a learned position for each place of
    another size, and those that hide places.

    Networks that stretch their positions by themselves (DINO) do not have the switch for it. Masked autoencoders hide
    patches whenever they run.
    """
    if getattr(tower.config, "mask_ratio", 0):
        raise RecipeError(
            "model",
            f"a {tower.config.model_type} hides parts of each image at random whenever it runs; save its encoder as a "
            "ViTModel and name that",
        )
    fixed = "interpolate_pos_encoding" in inspect.signature(tower.forward).parameters
    size, given = _pair(getattr(tower.config, "image_size", None)), (geometry.height, geometry.width)
    if fixed and size not in (None, given):
        raise RecipeError(
            "model",
            f"its network reads images of {size} (height, width), but its preprocessor_config.json brings them to "
            f"{given}",
        )


def _places(config: Any, geometry: Geometry) -> int | None:
    """How many patches an image is cut into; None where the network does not cut it."""
    patch = _pair(getattr(config, "patch_size", None))
    return None if patch is None else (geometry.height // patch[0]) * (geometry.width // patch[1])


def _pair(size: Any) -> tuple[int, int] | None:
    if size is None or isinstance(size, int):
        return None if size is None else (size, size)
    height, width = size
    return height, width
