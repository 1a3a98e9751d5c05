"""What encoders of images and clips share: bytes to numbers, the layout in memory, and frames without padding."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from polymodal.core.errors import RecipeError


def to_unit(pixels: Tensor, dtype: torch.dtype) -> Tensor:
    """Bytes 0 to 255 as numbers from -1 to 1 in `dtype`; the memory layout stays."""
    return pixels.to(dtype) / 127.5 - 1


def channels_last(module: nn.Module) -> None:
    """Lay out the module's convolutions as the pixels are laid out, which is several times faster."""
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def pack(pixels: Tensor, real: Tensor) -> Tensor:
    """The real frames of all items one after another: `[items, frames, 3, height, width]` -> `[real, 3, height,
    width]`, laid out channels-last.
    """
    last = pixels.permute(0, 1, 3, 4, 2).flatten(0, 1)
    if not bool(real.all()):
        last = last.index_select(0, real.flatten().nonzero().squeeze(1))
    return last.permute(0, 3, 1, 2)


def unpack(frames: Tensor, real: Tensor) -> Tensor:
    """The inverse of `pack` for features `[real, width]`: `[items, frames, width]`, zeros in the padding."""
    if len(frames) == real.numel():
        return frames.view(*real.shape, -1)
    spread = frames.new_zeros(real.numel(), frames.shape[-1])
    return spread.index_copy(0, real.flatten().nonzero().squeeze(1), frames).view(*real.shape, -1)


def patch_grid(shape: dict[str, Any], patch: int, what: str) -> tuple[int, int]:
    """Rows and columns of square patches in a picture of the modality's `shape`; `what` names one for the message.

    Raises:
        RecipeError: `patch` does not divide its height and width.
    """
    height, width = shape["height"], shape["width"]
    if height % patch or width % patch:
        fitting = [size for size in (4, 7, 8, 14, 16, 32) if not (height % size or width % size)]
        raise RecipeError("patch", f"{patch} does not divide {what} of {height} x {width} pixels; {fitting} would")
    return height // patch, width // patch
