"""Convolutions over spectrogram frames that ignore padding, shared by the audio encoders."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polymodal.core.types import length_mask
from polymodal.runtime.host_reads import can_read


def strided_length(length: Tensor, stride: int) -> Tensor:
    """The number of frames that remain of `length` after a stride: `ceil(length / stride)`."""
    return (length + stride - 1) // stride


def frame_times(items: Tensor, length: int, first: float, step: float) -> Tensor:
    """`[items, length]` fp32 seconds: `first`, `first + step`, ... for each of `items [items]`."""
    times = first + step * torch.arange(length, dtype=torch.float32, device=items.device)
    return times.expand(items.shape[0], -1)


def mask_frames(x: Tensor, length: Tensor) -> Tensor:
    """`x [items, channels, frames, bands]` with zeros after each item's `length`, so that a convolution does not read
    values after the end.
    """
    mask = length_mask(length, x.shape[2])
    return x if can_read(mask) and bool(mask.all()) else x * mask[:, None, :, None].to(x.dtype)


class FrameNorm(nn.Module):
    """Layer normalization of `[items, channels, frames, bands]` within each frame, over channels and bands together
    (Ba et al., "Layer Normalization", 2016), with a scale and a shift for each channel.

    The statistics do not cover time or items, so neither padding nor the batch affects a frame. The bands of a frame
    keep their relative values.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        items, channels, frames, bands = x.shape
        last = x.permute(0, 2, 3, 1).reshape(items, frames, bands * channels)
        last = F.layer_norm(last, [bands * channels], self.weight.repeat(bands), self.bias.repeat(bands))
        return last.view(items, frames, bands, channels).permute(0, 3, 1, 2)


class FrameConvolution(nn.Module):
    """y = ReLU(FrameNorm(W * x + b)): a strided convolution over frames and bands. The bias b prevents the norm from
    amplifying an almost empty frame.

    Output frame t is centered at input frame `stride * t`; there are `strided_length(length, stride)` output frames.

    kernel, stride: along frames and along bands; kernel sizes are odd
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: tuple[int, int], stride: tuple[int, int]) -> None:
        super().__init__()
        self.stride = stride[0]
        self.convolution = nn.Conv2d(in_channels, out_channels, kernel, stride, (kernel[0] // 2, kernel[1] // 2))
        self.norm = FrameNorm(out_channels)

    def forward(self, x: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """`x [items, channels, frames, bands]` and its number of real frames `length [items]` -> the same,
        convolved."""
        return torch.relu(self.norm(self.convolution(mask_frames(x, length)))), strided_length(length, self.stride)


class MelConvolutions(nn.Module):
    """A stem of 5 x 5 and three stages of 3 x 3 convolutions, with `first`, `first`, `2 first` and `4 first` channels.

    Each of the four begins with a stride of 2 over bands, so a sixteenth of the bands remain. They are flattened with
    the channels at the end: `forward` returns `[items, frames / stride, self.width]`.

    layers: number of convolutions in each stage
    strides: strides over frames of the stem and of the three stages; `self.stride` is their product
    """

    def __init__(self, channels: int, n_mels: int, first: int, layers: int, strides: tuple[int, int, int, int]) -> None:
        super().__init__()
        widths = [first, first, 2 * first, 4 * first]
        self.layers = nn.ModuleList([FrameConvolution(channels, first, (5, 5), (strides[0], 2))])
        for in_channels, out_channels, stride in zip(widths[:-1], widths[1:], strides[1:], strict=True):
            self.layers.append(FrameConvolution(in_channels, out_channels, (3, 3), (stride, 2)))
            self.layers.extend(FrameConvolution(out_channels, out_channels, (3, 3), (1, 1)) for _ in range(layers - 1))
        self.stride = strides[0] * strides[1] * strides[2] * strides[3]
        bands = n_mels
        for _ in strides:
            bands = -(-bands // 2)
        self.width = widths[-1] * bands
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks this form

    def forward(self, mel: Tensor, length: Tensor, dropout: nn.Module) -> tuple[Tensor, Tensor]:
        """`mel [items, channels, frames, mels]` and its number of real frames `[items]` -> tokens and their number.

        dropout: applied to the last feature map
        """
        x = mel.contiguous(memory_format=torch.channels_last)
        for layer in self.layers:
            x, length = layer(x, length)
        return dropout(x).permute(0, 2, 1, 3).flatten(2), length
