"""Square patches of images, and tubes of clips."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from polymodal.core.errors import RecipeError
from polymodal.core.types import length_mask
from polymodal.nn.encoders.pixels import to_unit
from polymodal.nn.encoders.vit import patchify
from polymodal.nn.objectives.masking.mask_units import Data, NumericUnits

#: What hidden places show: the grey in the middle of the range.
GREY = 128
#: The side of a silent patch: the largest of these with eight patches or more along the shorter side.
SIDES = (16, 14, 12, 10, 8, 7, 6, 5, 4)
#: Added to the variance of a patch, in squares of the unit range, so that noise in an even patch is not blown up.
EVEN = 1e-4


class ImagePatches(NumericUnits):
    """Square patches, each normalised by its own mean and deviation (He et al., "Masked Autoencoders Are Scalable
    Vision Learners", 2022, section 4). The encoder sees all patches, the hidden ones grey (Xie et al., "SimMIM: A
    Simple Framework for Masked Image Modeling", 2022), so that any encoder of images serves.

    Raises:
        RecipeError: the patch does not divide the image.
    """

    share = 0.6

    def __init__(self, shape: dict[str, Any], patch: int | None, frames: int = 1) -> None:
        height, across = shape["height"], shape["width"]
        side = patch or _silent(height, across)
        if height % side or across % side:
            raise RecipeError("patch", f"{side} does not divide {height} x {across} pixels")
        grid = (height // side, across // side)
        self._grid = grid
        super().__init__(grid[0] * grid[1], frames * side**2 * shape["channels"])
        self.patch = side

    def _at(self) -> Tensor:
        return _middles(*self._grid, self._grid)

    def token_coordinates(self, mask: Tensor, real: Tensor) -> Tensor | None:
        """Row by row, where the tokens fill a grid of the image's form."""
        rows, columns = self._grid
        count = mask.shape[1]
        down = max(1, round((count * rows / columns) ** 0.5))
        if count != down * max(1, round(down * columns / rows)):
            return None
        return _middles(down, count // down, self._grid).to(mask.device).expand(len(mask), -1, -1)

    def real(self, data: Data) -> Tensor:
        return torch.ones(len(data["pixels"]), self.places, dtype=torch.bool, device=data["pixels"].device)

    def hide(self, data: Data, hidden: Tensor) -> Data:
        area = self._area(hidden).unsqueeze(1)
        return {**data, "pixels": data["pixels"].masked_fill(area, GREY)}

    def target(self, data: Data) -> tuple[Tensor, Tensor]:
        values = to_unit(patchify(data["pixels"], self.patch), torch.float32)
        return _normalised(values, torch.ones_like(values))

    def _area(self, hidden: Tensor) -> Tensor:
        """`[items, height, width]`, the pixels of hidden patches."""
        grid = hidden.view(-1, *self._grid)
        return grid.repeat_interleave(self.patch, 1).repeat_interleave(self.patch, 2)


class VideoTubes(ImagePatches):
    """Patches over the whole length of a clip, all frames hidden at the same place, so that no other frame tells what
    is there (Tong et al., "VideoMAE: Masked Autoencoders are Data-Efficient Learners for Self-Supervised Video
    Pre-Training", 2022). Frames that a shorter clip does not have do not count.
    """

    share = 0.75

    def __init__(self, shape: dict[str, Any], patch: int | None) -> None:
        super().__init__(shape, patch, shape["frames"])
        self.frames = shape["frames"]

    def token_coordinates(self, mask: Tensor, real: Tensor) -> Tensor | None:
        return None  # of frames, of cubes, of whole clips: that is up to the encoder

    def hide(self, data: Data, hidden: Tensor) -> Data:
        real = length_mask(data["length"], data["pixels"].shape[1])
        area = self._area(hidden)[:, None, None] & real[:, :, None, None, None]
        return {**data, "pixels": data["pixels"].masked_fill(area, GREY)}

    def target(self, data: Data) -> tuple[Tensor, Tensor]:
        pixels, real = data["pixels"], length_mask(data["length"], data["pixels"].shape[1])
        items, frames = real.shape
        patches = to_unit(patchify(pixels.flatten(0, 1), self.patch), torch.float32)
        values = patches.view(items, frames, self.places, -1).transpose(1, 2)
        known = real[:, None, :, None].expand_as(values).float()
        short = (0, 0, 0, self.frames - frames)
        values, known = functional.pad(values, short).flatten(2), functional.pad(known, short).flatten(2)
        return _normalised(values, known)


def _normalised(values: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    count = known.sum(-1, keepdim=True).clamp_min(1)
    centred = (values - (values * known).sum(-1, keepdim=True) / count) * known
    variance = centred.square().sum(-1, keepdim=True) / count
    return centred * (variance + EVEN).rsqrt(), known


def _silent(height: int, across: int) -> int:
    least = min(height, across)
    fitting = [side for side in SIDES if not (height % side or across % side)]
    return next((side for side in fitting if least // side >= 8), fitting[-1] if fitting else 1)


def _middles(down: int, across: int, grid: tuple[int, int]) -> Tensor:
    """The middles of `down * across` equal areas of a picture, `[areas, 2]`, in rows and columns of the grid."""
    row = (torch.arange(down) + 0.5) * grid[0] / down - 0.5
    column = (torch.arange(across) + 0.5) * grid[1] / across - 0.5
    return torch.cartesian_prod(row, column)
