"""Strong random changes of the items of an input, so that two copies of a row differ while they tell of the same thing.

The random changes of a modality (`Modality.augment`) are what the recipe's user chose for training, and may be none.
Objectives that compare two copies of a row need them to differ, whatever was chosen; these changes come on top.
Everything is drawn from torch's global generator, nothing is changed in place, and `strength` goes from 0 to 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from polymodal.core.errors import RecipeError
from polymodal.core.types import InputBatch, Tokens
from polymodal.modalities import image_augment, time_series_augment, audio_augment
from polymodal.nn.objectives.base import ObjectiveBatch

Data = dict[str, Tensor]


class AugmentedView(NamedTuple):
    """Another view of input `name`, whose modality is `modality`, changed with `strength`."""

    name: str
    modality: str
    strength: float

    def batch(self, step: ObjectiveBatch) -> InputBatch:
        """The rows of a step once more, with other random changes and strong ones on top."""
        again = step.again().inputs[self.name]
        if not bool(again.present.any()):
            return again
        return InputBatch(AUGMENTATIONS[self.modality](again.data, self.strength), again.index, again.present)

    def tokens(self, step: ObjectiveBatch) -> Tokens:
        """The tokens of such a copy."""
        tokens: Tokens
        tokens, _ = step.network.towers[self.name](self.batch(step))
        return tokens


def check_augmentable(name: str, modality: str) -> str:
    """The modality, if there are changes of its items.

    Raises:
        RecipeError: there are none, so that two copies of a row would be the same.
    """
    if modality not in AUGMENTATIONS:
        raise RecipeError(
            "inputs",
            f"two copies of {name!r} would be the same: there are no random changes of {modality}; "
            f"it learns from {', '.join(sorted(AUGMENTATIONS))}",
        )
    return modality


def augment_images(data: Data, strength: float) -> Data:
    """A random part of each image (at least `1 - 0.7 strength` of its area, sides 3 to 4 at most) resized to the whole,
    mirrored half of the time, brighter or darker, with more or less contrast (Chen et al., "A Simple Framework for
    Contrastive Learning of Visual Representations", 2020, without blur and grey)."""
    return {**data, "pixels": _coloured(_cropped(data["pixels"], strength), strength)}


def augment_videos(data: Data, strength: float) -> Data:
    """The same part of every frame of a clip, mirrored or not, in other light: as `augment_images`."""
    pixels = data["pixels"]
    items, frames = pixels.shape[:2]
    flat = _cropped(pixels.flatten(0, 1), strength, frames).view(items, -1, *pixels.shape[3:])
    tall = flat.view(items, 3, -1, pixels.shape[-1])  # one draw of light for a whole clip
    return {**data, "pixels": _coloured(tall, strength).view(pixels.shape)}


def _cropped(pixels: Tensor, strength: float, together: int = 1) -> Tensor:
    """pixels: `[n, channels, height, width]`; each `together` images in a row are cut and mirrored alike."""
    draws = len(pixels) // together
    area = 1 - 0.7 * strength * torch.rand(draws)
    ratio = torch.exp((2 * torch.rand(draws) - 1) * strength * torch.log(torch.tensor(4 / 3)))
    wide, high = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    mirror = torch.where(torch.rand(draws) < 0.5, -1.0, 1.0)
    place = torch.zeros(draws, 2, 3)
    place[:, 0, 0], place[:, 1, 1] = wide * mirror, high
    place[:, 0, 2] = (2 * torch.rand(draws) - 1) * (1 - wide)
    place[:, 1, 2] = (2 * torch.rand(draws) - 1) * (1 - high)
    grid = functional.affine_grid(place.repeat_interleave(together, 0), list(pixels.shape), align_corners=False)
    found = functional.grid_sample(pixels.float(), grid.to(pixels.device), padding_mode="border", align_corners=False)
    return found.round_().clamp_(0, 255).to(pixels.dtype)


def _coloured(pixels: Tensor, strength: float) -> Tensor:
    return image_augment.contrast(image_augment.brightness(pixels, 0.6 * strength), 0.6 * strength)


def augment_series(data: Data, strength: float) -> Data:
    """A stretch of each series, with a gap in it, its channels larger or smaller, and noise."""
    data = time_series_augment.crop(data, 0.6 * strength)
    data = time_series_augment.mask(data, 0.4 * strength)
    return time_series_augment.jitter(time_series_augment.gain(data, 0.4 * strength), 0.2 * strength)


def augment_audio(data: Data, strength: float) -> Data:
    """Each sound earlier or later, louder or quieter, with white noise (at least 20 dB - 20 dB strength below it)."""
    values = audio_augment.shift(data["values"], data["length"], 0.4 * strength)
    values = audio_augment.add_noise(values, data["length"], 20 - 20 * strength)
    return {**data, "values": audio_augment.gain(values, 12 * strength)}


def augment_texts(data: Data, strength: float) -> Data:
    """Each symbol of a text is lost with a chance of `0.5 strength`, but the first and the last; the rest moves up."""
    values, length = data["values"], data["length"]
    place = torch.arange(values.shape[1], device=values.device)
    inside = (place > 0) & (place < length.unsqueeze(1) - 1)
    kept = (place < length.unsqueeze(1)) & ~(inside & (torch.rand(values.shape).to(values.device) < 0.5 * strength))
    order = (~kept).int().argsort(dim=1, stable=True)
    moved = values.gather(1, order)
    count = kept.sum(1).to(length.dtype)
    short = values[length < values.shape[1], -1]
    padding = int(short[0]) if len(short) else 0
    found = torch.where(place < count.unsqueeze(1), moved, padding)
    return {**data, "values": found, "length": count}


def augment_cells(data: Data, strength: float) -> Data:
    """Each cell is, with a chance of `strength`, that of another row of the batch (Bahri et al., "SCARF:
    Self-Supervised Contrastive Learning using Random Feature Corruption", 2022)."""
    first = next(iter(data.values()))
    swapped = torch.rand(first.shape).to(first.device) < strength
    other = torch.randint(len(first), first.shape).to(first.device)
    return {name: torch.where(swapped, values.gather(0, other), values) for name, values in data.items()}


AUGMENTATIONS: dict[str, Callable[[Data, float], Data]] = {
    "image": augment_images,
    "video": augment_videos,
    "series": augment_series,
    "audio": augment_audio,
    "text": augment_texts,
    "number": augment_cells,
    "category": augment_cells,
}
