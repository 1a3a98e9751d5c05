"""Mask units of images and video: square patches and space-time tubes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from polymodal.core.errors import RecipeError
from polymodal.core.types import length_mask
from polymodal.nn.encoders.pixels import scale_pixels
from polymodal.nn.encoders.vit import patchify
from polymodal.nn.objectives.masking.mask_units import Data, NumericUnits

#: Pixel value of masked patches: mid-gray.
GRAY = 128
#: Default patch side: the largest of these with at least eight patches along the shorter side.
DEFAULT_SIDES = (16, 14, 12, 10, 8, 7, 6, 5, 4)
#: Added to the variance of a patch, in squared units of the range 0 to 1, so that noise in a uniform patch is not
#: amplified.
VARIANCE_FLOOR = 1e-4


class ImagePatches(NumericUnits):
    """Square patches, each normalized by its own mean and standard deviation (He et al., "Masked Autoencoders Are
    Scalable Vision Learners", 2022, section 4). The encoder reads all patches, with masked patches gray (Xie et al.,
    "SimMIM: A Simple Framework for Masked Image Modeling", 2022), so that any image encoder can be used.

    Raises:
        RecipeError: the patch size does not divide the image size.
    """

    default_mask_ratio = 0.6

    def __init__(self, shape: dict[str, Any], patch: int | None, frames: int = 1) -> None:
        height, across = shape["height"], shape["width"]
        side = patch or _default_side(height, across)
        if height % side or across % side:
            raise RecipeError("patch_size", f"{side} does not divide the image of {height} x {across} pixels")
        grid = (height // side, across // side)
        self._grid = grid
        super().__init__(grid[0] * grid[1], frames * side**2 * shape["channels"])
        self.patch = side

    def _coordinates(self) -> Tensor:
        return _centers(*self._grid, self._grid)

    def token_coordinates(self, mask: Tensor, real: Tensor) -> Tensor | None:
        """Row by row, if the tokens form a grid with the aspect ratio of the image."""
        rows, columns = self._grid
        count = mask.shape[1]
        down = max(1, round((count * rows / columns) ** 0.5))
        if count != down * max(1, round(down * columns / rows)):
            return None
        return _centers(down, count // down, self._grid).to(mask.device).expand(len(mask), -1, -1)

    def valid_units(self, data: Data) -> Tensor:
        return torch.ones(len(data["pixels"]), self.num_positions, dtype=torch.bool, device=data["pixels"].device)

    def apply_mask(self, data: Data, mask: Tensor) -> Data:
        area = self._masked_pixels(mask).unsqueeze(1)
        return {**data, "pixels": data["pixels"].masked_fill(area, GRAY)}

    def targets(self, data: Data) -> tuple[Tensor, Tensor]:
        values = scale_pixels(patchify(data["pixels"], self.patch), torch.float32)
        return _normalize(values, torch.ones_like(values))

    def _masked_pixels(self, mask: Tensor) -> Tensor:
        """Pixels of masked patches, `[items, height, width]` bool."""
        grid = mask.view(-1, *self._grid)
        return grid.repeat_interleave(self.patch, 1).repeat_interleave(self.patch, 2)


class VideoTubes(ImagePatches):
    """Patches over the whole length of a video, masked at the same position in all frames, so that no frame reveals the
    content (Tong et al., "VideoMAE: Masked Autoencoders are Data-Efficient Learners for Self-Supervised Video
    Pre-Training", 2022). Padding frames of shorter videos are ignored."""

    default_mask_ratio = 0.75

    def __init__(self, shape: dict[str, Any], patch: int | None) -> None:
        super().__init__(shape, patch, shape["frames"])
        self.frames = shape["frames"]

    def token_coordinates(self, mask: Tensor, real: Tensor) -> Tensor | None:
        return None  # depends on the encoder: tokens of frames, of cubes or of whole videos

    def apply_mask(self, data: Data, mask: Tensor) -> Data:
        real = length_mask(data["length"], data["pixels"].shape[1])
        area = self._masked_pixels(mask)[:, None, None] & real[:, :, None, None, None]
        return {**data, "pixels": data["pixels"].masked_fill(area, GRAY)}

    def targets(self, data: Data) -> tuple[Tensor, Tensor]:
        pixels, real = data["pixels"], length_mask(data["length"], data["pixels"].shape[1])
        items, frames = real.shape
        patches = scale_pixels(patchify(pixels.flatten(0, 1), self.patch), torch.float32)
        values = patches.view(items, frames, self.num_positions, -1).transpose(1, 2)
        known = real[:, None, :, None].expand_as(values).float()
        short = (0, 0, 0, self.frames - frames)
        values, known = functional.pad(values, short).flatten(2), functional.pad(known, short).flatten(2)
        return _normalize(values, known)


def _normalize(values: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    count = known.sum(-1, keepdim=True).clamp_min(1)
    centered = (values - (values * known).sum(-1, keepdim=True) / count) * known
    variance = centered.square().sum(-1, keepdim=True) / count
    return centered * (variance + VARIANCE_FLOOR).rsqrt(), known


def _default_side(height: int, across: int) -> int:
    shorter = min(height, across)
    divisors = [side for side in DEFAULT_SIDES if not (height % side or across % side)]
    return next((side for side in divisors if shorter // side >= 8), divisors[-1] if divisors else 1)


def _centers(down: int, across: int, grid: tuple[int, int]) -> Tensor:
    """Centers of `down * across` equal areas of an image, `[areas, 2]`, in rows and columns of the grid."""
    row = (torch.arange(down) + 0.5) * grid[0] / down - 0.5
    column = (torch.arange(across) + 0.5) * grid[1] / across - 0.5
    return torch.cartesian_prod(row, column)
