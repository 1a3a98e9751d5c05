"""A Transformer over patches of the log-mel spectrogram."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from polymodal.core.options import sized_field
from polymodal.core.registry import register
from polymodal.core.types import length_mask
from polymodal.nn.encoders.base import Encoder
from polymodal.nn.encoders.frame_convolution import frame_times, strided_length
from polymodal.nn.encoders.logmel import LogMel, LogMelOptions
from polymodal.nn.encoders.position_embedding import check_heads
from polymodal.nn.layers.transformer import TransformerBlock, positions_on
from polymodal.runtime.host_reads import can_read


@register
class AudioTransformer(Encoder):
    """A pre-norm Transformer over patches of time and frequency (Gong et al., "AST: Audio Spectrogram Transformer",
    2021), without a class token.

        x_0 = W patch + T[time] + P[frequency] ;  x_l = Block_l(x_{l-1}) ;  token_t = mean over frequency of LN(x_L)

    Patches do not overlap and cover all channels. Position embeddings are fixed sinusoids in time and learned vectors
    in frequency. A token is the mean over frequency of the patches of one time segment, so tokens are ordered in time.

    Raises:
        RecipeError: `num_heads` does not divide the hidden size, or an option of `LogMel` is invalid.
    """

    class Options(LogMelOptions):
        name: Literal["audio_transformer"] = "audio_transformer"
        patch_frames: int = sized_field(4, 8, 8, ge=1, le=100)
        """Patch size in frames; each token covers this many frames."""
        patch_mels: int = sized_field(20, 16, 16, ge=1, le=256)
        """Patch size in mel bands; the highest patch is zero-padded."""
        num_layers: int = sized_field(2, 4, 8, ge=1, le=48)
        """Number of blocks."""
        num_heads: int = sized_field(4, 4, 8, ge=1)
        """Number of attention heads; it must divide the hidden size."""
        dropout: float = Field(default=0.1, ge=0, lt=1)
        """Dropout rate."""

    modality: ClassVar[str] = "audio"

    def __init__(self, options: Options, *, shape: dict[str, Any], width: int) -> None:
        super().__init__(options, shape=shape, width=width)
        check_heads(options.num_heads, width)
        self.width = width
        self.mel = LogMel(options, shape["rate"])
        self.patch_frames, self.patch_mels = options.patch_frames, options.patch_mels
        rows = -(-options.n_mels // self.patch_mels)
        self.project = nn.Linear(self.patch_frames * self.patch_mels * shape["channels"], width)
        self.frequency_positions = nn.Parameter(0.3 * torch.randn(rows, width))
        self.dropout = nn.Dropout(options.dropout)
        self.blocks = nn.ModuleList(
            TransformerBlock(width, options.num_heads, options.dropout) for _ in range(options.num_layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """`values [items, channels, samples]`, `length [items]` -> `[items, frames / patch_frames, width]`."""
        mel, length = self.mel(data["values"], data["length"])
        patches = patchify_spectrogram(mel, self.patch_frames, self.patch_mels)  # [items, steps, rows, pixels]
        steps, rows = patches.shape[1:3]
        mask = length_mask(strided_length(length, self.patch_frames), steps)
        time_positions = positions_on(patches.device, steps, self.width)
        x = self.project(patches.to(self.project.weight.dtype))
        x = self.dropout((x + (time_positions.unsqueeze(1) + self.frequency_positions).to(x.dtype)).flatten(1, 2))
        allowed = None if can_read(mask) and bool(mask.all()) else mask.repeat_interleave(rows, dim=1)
        for block in self.blocks:
            x = block(x, allowed)
        return self.norm(x).view(x.shape[0], steps, rows, self.width).mean(2), mask

    def times(self, data: dict[str, Tensor], length: int) -> Tensor:
        """The center of each patch, in seconds."""
        return frame_times(
            data["length"],
            length,
            (self.patch_frames - 1) / 2 * self.mel.hop_seconds,
            self.patch_frames * self.mel.hop_seconds,
        )


def patchify_spectrogram(mel: Tensor, frames: int, bands: int) -> Tensor:
    """`[items, channels, time, mels]` -> patches `[items, time / frames, mels / bands, channels * frames * bands]`,
    zero-padded at the ends.
    """
    mel = F.pad(mel, (0, -mel.shape[3] % bands, 0, -mel.shape[2] % frames))
    items, channels, time, mels = mel.shape
    split = mel.view(items, channels, time // frames, frames, mels // bands, bands)
    return split.permute(0, 2, 4, 1, 3, 5).flatten(3)
