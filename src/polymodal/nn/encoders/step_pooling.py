"""Shared by the time-series encoders: step features, mean pooling of steps, masked batch normalization."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from polymodal.distributed.world import World
from polymodal.nn.layers.shared_batch import SharesBatch


def step_features(data: dict[str, Tensor], dtype: torch.dtype) -> Tensor:
    """`[items, steps, 2 * channels]`: the values (0 where missing or padded) and flags of the observed values."""
    return torch.cat([data["values"], data["observed"]], dim=-1).to(dtype)


def window_size(steps: int, tokens: int) -> int:
    """The number of steps per token with which the longest series gives at most `tokens` tokens."""
    return -(-steps // tokens)


def pool_steps(x: Tensor, real: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """Means over windows of `window` steps of `x [items, steps, width]`, of real steps only, and the mask of the
    windows that contain a real step."""
    if window == 1:
        return x, real
    padding = -x.shape[1] % window
    x = functional.pad(x * real.unsqueeze(-1).to(x.dtype), (0, 0, 0, padding))
    count = functional.pad(real, (0, padding)).reshape(x.shape[0], -1, window).sum(2)
    return x.reshape(x.shape[0], count.shape[1], window, -1).sum(2) / count.clamp_min(1).unsqueeze(-1).to(
        x.dtype
    ), count > 0


def window_times(data: dict[str, Tensor], length: int, window: int, stride: int) -> Tensor:
    """The midpoint between the times of the first and the last real step of each window, `[items, length]` fp32.

    Window i starts at step `i * stride`. A window that starts after the last step has the time of the last step.
    """
    last = (data["length"] - 1).clamp_min(0).unsqueeze(1)
    start = torch.arange(length, device=last.device) * stride
    first, end = torch.minimum(start, last), torch.minimum(start + window - 1, last)
    times = data["times"].float()
    return (times.gather(1, first) + times.gather(1, end)) / 2


class MaskedBatchNorm(nn.Module, SharesBatch):
    """Batch normalization over real positions only (Ioffe and Szegedy, "Batch Normalization: Accelerating Deep Network
    Training by Reducing Internal Covariate Shift", 2015):

        y = gamma (x - m) / sqrt(v + eps) + beta

    with mean m and variance v of each channel over the real positions of the batch in training, and their running
    means in evaluation. The output at padding is 0. In evaluation mode, positions are independent of each other.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, channels: int, momentum: float = 0.1) -> None:
        super().__init__()
        self.momentum = momentum
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        """`x [items, channels, steps]`, `real [items, 1, steps]` of 1 and 0 in the same dtype."""
        mean, variance = self.mean, self.variance
        if self.training:
            counted = real if self.has_rows else 0 * real
            mean, variance = _mean_and_variance(x.float(), counted.float(), self.world)
            with torch.no_grad():
                self.mean.lerp_(mean.to(self.mean.dtype), self.momentum)
                self.variance.lerp_(variance.to(self.variance.dtype), self.momentum)
        scale = self.weight * (variance + 1e-5).rsqrt()
        shift = self.bias - mean * scale
        return (x * scale.to(x.dtype).unsqueeze(-1) + shift.to(x.dtype).unsqueeze(-1)) * real


def _mean_and_variance(x: Tensor, real: Tensor, world: World) -> tuple[Tensor, Tensor]:
    count = world.sum(real.sum()).clamp_min(1)
    mean = world.sum_with_gradient((x * real).sum((0, 2))) / count
    centered = (x - mean.unsqueeze(-1)) * real
    return mean, world.sum_with_gradient((centered**2).sum((0, 2))) / count
