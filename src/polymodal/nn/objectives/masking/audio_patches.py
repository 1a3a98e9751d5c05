"""Mask units of audio: segments of time."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional

from polymodal.core.types import length_mask
from polymodal.nn.encoders.base import Encoder
from polymodal.nn.encoders.logmel import LogMel, LogMelOptions
from polymodal.nn.encoders.windowed import window_encoder
from polymodal.nn.objectives.masking.mask_units import Data, NumericUnits, valid_segments

#: Default patch length in seconds.
PATCH_SECONDS = 0.16


class AudioPatches(NumericUnits):
    """Segments of consecutive frames of the log-mel spectrogram, over all bands (Huang et al., "Masked Autoencoders
    that Listen", 2022, with masking in time), normalized to mean 0 and standard deviation 1 over each item. Masked
    segments are silent in the waveform, so that any audio encoder can be used. The spectrogram is that of the encoder's
    own front end, if it has one."""

    default_mask_ratio = 0.5

    def __init__(self, shape: dict[str, Any], patch: int | None, encoder: Encoder) -> None:
        own = getattr(window_encoder(encoder), "mel", None)
        chosen = own.options if isinstance(own, LogMel) else LogMelOptions(name="logmel")
        plain = {"normalization": "standard", "num_time_masks": 0, "num_freq_masks": 0}
        mel = LogMel(chosen.model_copy(update=plain), shape["rate"])
        frames = patch or max(1, round(PATCH_SECONDS / mel.hop_seconds))
        longest = -(-shape["samples"] // mel.hop_samples)
        super().__init__(-(-longest // frames), frames * shape["channels"] * chosen.n_mels)
        self.mel, self.frames = mel, frames

    def valid_units(self, data: Data) -> Tensor:
        return valid_segments(data["length"], data["values"].shape[2], self.frames * self.mel.hop_samples)

    def apply_mask(self, data: Data, mask: Tensor) -> Data:
        values = data["values"]
        area = mask.repeat_interleave(self.frames * self.mel.hop_samples, 1)[:, None, : values.shape[2]]
        return {**data, "values": values.masked_fill(area, 0.0)}

    def targets(self, data: Data) -> tuple[Tensor, Tensor]:
        mel, length = self.mel(data["values"], data["length"])
        items, channels, frames, bands = mel.shape
        known = length_mask(length, frames)[:, None, :, None].expand_as(mel).float()
        short = (0, 0, 0, -frames % self.frames)

        def cut(x: Tensor) -> Tensor:
            parts = functional.pad(x, short).view(items, channels, -1, self.frames, bands)
            return parts.transpose(1, 2).flatten(2)

        return cut(mel.float()), cut(known)
