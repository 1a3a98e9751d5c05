"""A Transformer over patches of the spectrogram."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from polymodal.core.options import sized
from polymodal.core.registry import register
from polymodal.core.types import length_mask
from polymodal.nn.encoders.base import Encoder
from polymodal.nn.encoders.frames import frame_times, shorter
from polymodal.nn.encoders.logmel import LogMel, LogMelOptions
from polymodal.nn.encoders.positions import check_heads
from polymodal.nn.layers.transformer import TransformerBlock, sinusoidal_positions


@register
class AudioTransformer(Encoder):
    """Self-attention over patches of time and frequency (Gong et al., "AST: Audio Spectrogram Transformer", 2021),
    normalisation first, without a class token.

        x_0 = W patch + T[time] + P[frequency] ;  x_l = Block_l(x_{l-1}) ;  token_t = mean over frequency of LN(x_L)

    Patches do not overlap. Places in time are fixed sines and cosines, places in frequency are learned. A token is
    the mean of the patches of one stretch of time, so tokens run in time. Patches lie on all channels at once.

    Raises:
        RecipeError: `heads` does not divide the common width, or as `LogMel` does.
    """

    class Options(LogMelOptions):
        name: Literal["audio_transformer"] = "audio_transformer"
        patch_frames: int = sized(4, 8, 8, ge=1, le=100)
        """Frames under a patch, which are the frames under a token."""
        patch_bands: int = sized(20, 16, 16, ge=1, le=256)
        """Bands under a patch; the highest patch is filled up with zeros."""
        layers: int = sized(2, 4, 8, ge=1, le=48)
        """Number of blocks."""
        heads: int = sized(4, 4, 8, ge=1)
        """Attention heads; they must divide the common width."""
        dropout: float = Field(default=0.1, ge=0, lt=1)
        """Share of units dropped in training."""

    modality: ClassVar[str] = "audio"

    def __init__(self, options: Options, *, shape: dict[str, Any], width: int) -> None:
        super().__init__(options, shape=shape, width=width)
        check_heads(options.heads, width)
        self.width = width
        self.mel = LogMel(options, shape["rate"])
        self.frames, self.bands = options.patch_frames, options.patch_bands
        rows = -(-options.mels // self.bands)
        self.project = nn.Linear(self.frames * self.bands * shape["channels"], width)
        self.pitch = nn.Parameter(0.3 * torch.randn(rows, width))
        self.dropout = nn.Dropout(options.dropout)
        self.blocks = nn.ModuleList(
            TransformerBlock(width, options.heads, options.dropout) for _ in range(options.layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """`values [items, channels, samples]`, `length [items]` -> `[items, frames / patch_frames, width]`."""
        mel, length = self.mel(data["values"], data["length"])
        patches = cut(mel, self.frames, self.bands)
        steps, rows = patches.shape[1:3]
        mask = length_mask(shorter(length, self.frames), steps)
        place = sinusoidal_positions(steps, self.width).to(patches.device)
        x = self.project(patches.to(self.project.weight.dtype))
        x = self.dropout((x + (place.unsqueeze(1) + self.pitch).to(x.dtype)).flatten(1, 2))
        allowed = None if bool(mask.all()) else mask.repeat_interleave(rows, dim=1)
        for block in self.blocks:
            x = block(x, allowed)
        return self.norm(x).view(len(x), steps, rows, self.width).mean(2), mask

    def times(self, data: dict[str, Tensor], length: int) -> Tensor:
        """The middle of each patch, in seconds."""
        return frame_times(
            data["length"], length, (self.frames - 1) / 2 * self.mel.seconds, self.frames * self.mel.seconds
        )


def cut(mel: Tensor, frames: int, bands: int) -> Tensor:
    """`[items, channels, time, mels]` -> patches `[items, time / frames, mels / bands, channels * frames * bands]`,
    filled up with zeros at the ends.
    """
    mel = F.pad(mel, (0, -mel.shape[3] % bands, 0, -mel.shape[2] % frames))
    items, channels, time, mels = mel.shape
    split = mel.view(items, channels, time // frames, frames, mels // bands, bands)
    return split.permute(0, 2, 4, 1, 3, 5).flatten(3)
