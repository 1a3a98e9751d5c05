"""Shared by the image and video encoders: pixel scaling, channels-last memory format, packed frames, patch grids."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from polymodal.core.errors import RecipeError


def scale_pixels(pixels: Tensor, dtype: torch.dtype) -> Tensor:
    """Scale 8-bit pixels from [0, 255] to [-1, 1] in `dtype`; the memory format is kept."""
    return pixels.to(dtype) / 127.5 - 1


def channels_last(module: nn.Module) -> None:
    """Convert the module to the channels-last memory format of the pixels, which is several times faster."""
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def pack_frames(pixels: Tensor, real: Tensor) -> Tensor:
    """The real frames of all items in order: `[items, frames, 3, height, width]` -> `[real, 3, height, width]`, in the
    channels-last memory format.
    """
    frames = pixels.permute(0, 1, 3, 4, 2).flatten(0, 1)
    if not bool(real.all()):
        frames = frames.index_select(0, real.flatten().nonzero().squeeze(1))
    return frames.permute(0, 3, 1, 2)


def unpack_frames(frames: Tensor, real: Tensor) -> Tensor:
    """The inverse of `pack_frames` for features `[real, width]`: `[items, frames, width]`, zeros at padding."""
    if frames.shape[0] == real.numel():
        return frames.view(*real.shape, -1)
    unpacked = frames.new_zeros(real.numel(), frames.shape[-1])
    return unpacked.index_copy(0, real.flatten().nonzero().squeeze(1), frames).view(*real.shape, -1)


def patch_grid(shape: dict[str, Any], patch: int, what: str) -> tuple[int, int]:
    """Rows and columns of square patches in an image of the modality's `shape`; `what` names it in the error message.

    Raises:
        RecipeError: the patch size does not divide the height and width.
    """
    height, width = shape["height"], shape["width"]
    if height % patch or width % patch:
        valid_sizes = [size for size in (4, 7, 8, 14, 16, 32) if not (height % size or width % size)]
        raise RecipeError(
            "patch_size", f"{patch} does not divide {what} of {height} x {width} pixels; {valid_sizes} would"
        )
    return height // patch, width // patch
