"""Convolutions along time that do not see padding, shared by the encoders of sound."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polymodal.core.types import length_mask


def shorter(length: Tensor, stride: int) -> Tensor:
    """How many frames remain of `length` when every `stride`-th is kept, beginning with the first."""
    return (length + stride - 1) // stride


def frame_times(items: Tensor, length: int, first: float, step: float) -> Tensor:
    """`[items, length]` fp32 seconds: `first`, `first + step`, ... for each of `items [items]`."""
    times = first + step * torch.arange(length, dtype=torch.float32, device=items.device)
    return times.expand(len(items), -1)


def silence(x: Tensor, length: Tensor) -> Tensor:
    """`x [items, channels, frames, bands]` with zeros after each item's `length`, so that nothing behind the end is
    seen by a convolution.
    """
    mask = length_mask(length, x.shape[2])
    return x if bool(mask.all()) else x * mask[:, None, :, None].to(x.dtype)


class FrameNorm(nn.Module):
    """Layer normalisation of `[items, channels, frames, bands]` within each frame, over channels and bands together
    (Ba et al., "Layer Normalization", 2016), with a scale and a shift for each channel.

    No statistic reaches over time or over items, so neither padding nor the batch can change a frame; and the bands
    of a frame keep their proportions.
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
    """y = ReLU(FrameNorm(W * x + b)): a strided convolution over frames and bands. With b, the norm does not blow up
    a frame in which there is next to nothing.

    Output frame t is centred at input frame `stride t`, and there are `shorter(length, stride)` of them.

    kernel, stride: along frames and along bands; kernels are odd
    """

    def __init__(self, before: int, after: int, kernel: tuple[int, int], stride: tuple[int, int]) -> None:
        super().__init__()
        self.stride = stride[0]
        self.convolution = nn.Conv2d(before, after, kernel, stride, (kernel[0] // 2, kernel[1] // 2))
        self.norm = FrameNorm(after)

    def forward(self, x: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """`x [items, channels, frames, bands]` and its real frames `length [items]` -> the same, convolved."""
        return torch.relu(self.norm(self.convolution(silence(x, length)))), shorter(length, self.stride)


class MelConvolutions(nn.Module):
    """A stem of 5 x 5 and three stages of 3 x 3 convolutions, with `first`, `first`, `2 first` and `4 first` channels.

    Each of the four begins with a stride of 2 over bands, so a sixteenth of them is left; it lies beside the channels
    at the end, and `forward` gives `[items, frames / stride, self.width]`.

    layers: convolutions in each stage
    time: the stride over frames of the stem and of each stage; `self.stride` is their product
    """

    def __init__(self, channels: int, mels: int, first: int, layers: int, time: tuple[int, int, int, int]) -> None:
        super().__init__()
        widths = [first, first, 2 * first, 4 * first]
        self.steps = nn.ModuleList([FrameConvolution(channels, first, (5, 5), (time[0], 2))])
        for before, after, stride in zip(widths[:-1], widths[1:], time[1:], strict=True):
            self.steps.append(FrameConvolution(before, after, (3, 3), (stride, 2)))
            self.steps.extend(FrameConvolution(after, after, (3, 3), (1, 1)) for _ in range(layers - 1))
        self.stride = time[0] * time[1] * time[2] * time[3]
        bands = mels
        for _ in time:
            bands = -(-bands // 2)
        self.width = widths[-1] * bands
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks this form

    def forward(self, mel: Tensor, length: Tensor, dropout: nn.Module) -> tuple[Tensor, Tensor]:
        """`mel [items, channels, frames, mels]` and its real frames -> tokens and their numbers.

        dropout: applied to the last feature maps
        """
        x = mel.contiguous(memory_format=torch.channels_last)
        for step in self.steps:
            x, length = step(x, length)
        return dropout(x).permute(0, 2, 1, 3).flatten(2), length
