"""Strong augmentations of the items of an input, for objectives that compare two views of a row.

The augmentations of a modality (`Modality.augment`) are chosen in the recipe and may be off. Objectives that compare
two views of a row need different views in any case, so these augmentations are added. All random numbers come from the
global generator of torch, nothing is changed in place, and `strength` is 0 to 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from polymodal.core.errors import RecipeError
from polymodal.core.types import InputBatch, Tokens
from polymodal.modalities import audio_augment, image_augment, time_series_augment
from polymodal.nn.objectives.base import ObjectiveBatch

Data = dict[str, Tensor]


class AugmentedView(NamedTuple):
    """An augmented view of input `name` of modality `modality`."""

    name: str
    modality: str
    strength: float

    def input_batch(self, step: ObjectiveBatch) -> InputBatch:
        """The rows of a batch with newly drawn and strong augmentations."""
        augmented = step.reaugment().inputs[self.name]
        if not bool(augmented.present.any()):
            return augmented
        return replace(augmented, data=AUGMENTATIONS[self.modality](augmented.data, self.strength))

    def tokens(self, step: ObjectiveBatch) -> Tokens:
        """Tokens of the augmented rows."""
        tokens: Tokens
        tokens, _ = step.network.towers[self.name](self.input_batch(step))
        return tokens


def check_augmentable(name: str, modality: str) -> str:
    """The modality, if it can be augmented.

    Raises:
        RecipeError: there are no augmentations, so that two views of a row would be equal.
    """
    if modality not in AUGMENTATIONS:
        raise RecipeError(
            "inputs",
            f"{name!r} cannot be augmented: the modality {modality} has no augmentations; "
            f"supported are {', '.join(sorted(AUGMENTATIONS))}",
        )
    return modality


def augment_images(data: Data, strength: float) -> Data:
    """Random resized crop of each image (at least `1 - 0.7 strength` of its area, aspect ratio up to 4:3), horizontal
    flip with probability 0.5, and random brightness and contrast (Chen et al., "A Simple Framework for Contrastive
    Learning of Visual Representations", 2020, without blur and grayscale)."""
    return {**data, "pixels": _jitter_colors(_random_resized_crop(data["pixels"], strength), strength)}


def augment_videos(data: Data, strength: float) -> Data:
    """As `augment_images`, with the same crop, flip and color change for all frames of a video."""
    pixels = data["pixels"]
    items, frames = pixels.shape[:2]
    flat = _random_resized_crop(pixels.flatten(0, 1), strength, frames).view(items, -1, *pixels.shape[3:])
    tall = flat.view(items, 3, -1, pixels.shape[-1])  # one color change for a whole video
    return {**data, "pixels": _jitter_colors(tall, strength).view(pixels.shape)}


def _random_resized_crop(pixels: Tensor, strength: float, group: int = 1) -> Tensor:
    """pixels: `[n, channels, height, width]`; `group` consecutive images are cropped and flipped equally"""
    count = len(pixels) // group
    area = 1 - 0.7 * strength * torch.rand(count)
    ratio = torch.exp((2 * torch.rand(count) - 1) * strength * torch.log(torch.tensor(4 / 3)))
    wide, high = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    mirror = torch.where(torch.rand(count) < 0.5, -1.0, 1.0)
    affine = torch.zeros(count, 2, 3)
    affine[:, 0, 0], affine[:, 1, 1] = wide * mirror, high
    affine[:, 0, 2] = (2 * torch.rand(count) - 1) * (1 - wide)
    affine[:, 1, 2] = (2 * torch.rand(count) - 1) * (1 - high)
    grid = functional.affine_grid(affine.repeat_interleave(group, 0), list(pixels.shape), align_corners=False)
    resampled = functional.grid_sample(
        pixels.float(), grid.to(pixels.device), padding_mode="border", align_corners=False
    )
    return resampled.round_().clamp_(0, 255).to(pixels.dtype)


def _jitter_colors(pixels: Tensor, strength: float) -> Tensor:
    return image_augment.contrast(image_augment.brightness(pixels, 0.6 * strength), 0.6 * strength)


def augment_series(data: Data, strength: float) -> Data:
    """Random crop of each time series, with a masked segment, gain and noise."""
    data = time_series_augment.random_crop(data, 0.6 * strength)
    data = time_series_augment.time_mask(data, 0.4 * strength)
    return time_series_augment.jitter(time_series_augment.gain(data, 0.4 * strength), 0.2 * strength)


def augment_audio(data: Data, strength: float) -> Data:
    """Random time shift and gain of each item, with white noise (signal-to-noise ratio at least 20 dB - 20 dB
    strength)."""
    values = audio_augment.time_shift(data["values"], data["length"], 0.4 * strength)
    values = audio_augment.add_noise(values, data["length"], 20 - 20 * strength)
    return {**data, "values": audio_augment.random_gain(values, 12 * strength)}


def augment_texts(data: Data, strength: float) -> Data:
    """Each token of a text except the first and the last is dropped with probability `0.5 strength`."""
    values, length = data["values"], data["length"]
    position = torch.arange(values.shape[1], device=values.device)
    inside = (position > 0) & (position < length.unsqueeze(1) - 1)
    kept = (position < length.unsqueeze(1)) & ~(inside & (torch.rand(values.shape).to(values.device) < 0.5 * strength))
    order = (~kept).int().argsort(dim=1, stable=True)
    moved = values.gather(1, order)
    count = kept.sum(1).to(length.dtype)
    short = values[length < values.shape[1], -1]
    padding = int(short[0]) if len(short) else 0
    values = torch.where(position < count.unsqueeze(1), moved, padding)
    return {**data, "values": values, "length": count}


def augment_cells(data: Data, strength: float) -> Data:
    """Each cell is swapped for that of another row of the batch with probability `strength` (Bahri et al., "SCARF:
    Self-Supervised Contrastive Learning using Random Feature Corruption", 2022)."""
    first = next(iter(data.values()))
    swapped = torch.rand(first.shape).to(first.device) < strength
    other = torch.randint(len(first), first.shape).to(first.device)
    return {name: torch.where(swapped, values.gather(0, other), values) for name, values in data.items()}


AUGMENTATIONS: dict[str, Callable[[Data, float], Data]] = {
    "image": augment_images,
    "video": augment_videos,
    "time_series": augment_series,
    "audio": augment_audio,
    "text": augment_texts,
    "number": augment_cells,
    "category": augment_cells,
    "datetime": augment_cells,
}
