"""MiniRocket and MultiRocket: features of time series from fixed convolutions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from itertools import accumulate, combinations, pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from polymodal.runtime.host_reads import device_constant

KERNEL_LENGTH = 9
#: All combinations of three of the nine weights of a kernel: these are 2, the others -1.
TRIPLES = list(combinations(range(KERNEL_LENGTH), 3))
MAX_DILATIONS = 32
#: Each combination of kernel and dilation fits its biases to one training series, so more series are not needed.
MAX_FIT_ITEMS = len(TRIPLES) * MAX_DILATIONS
#: Numbers that are compared with biases at once: they stay in the cache of the processor.
CHUNK_VALUES = 2**16
#: Up to this many kernels are convolved one after another, without copies of the shifted series.
SMALL_BLOCK = 8

Pooling = Literal["ppv", "mpv", "mipv", "lspv"]


class RocketTransform(nn.Module):
    """The transform of Dempster, Schmidt and Webb, "MiniRocket: A Very Fast (Almost) Deterministic Transform for Time
    Series Classification" (2021), and the poolings of Tan, Dempster, Bergmeir and Webb, "MultiRocket: Multiple Pooling
    Operators and Transformations for Fast and Effective Time Series Classification" (2022).

        z_j = k_j * x - b_j

    The 84 kernels k have nine weights, three of them 2 and the others -1, so that they sum to 0. Each is used at
    several dilations, up to the length of the longest training series, on a random subset of at most nine channels. The
    biases b are quantiles of the convolution of one random training series for each kernel and dilation. Every second
    combination of kernel and dilation convolves with zero padding, and the others only where the kernel fits; a series
    that is shorter than the kernel is padded in any case. The poolings of z are:

        ppv    the fraction of steps with z > 0: the feature of MiniRocket
        mpv    the mean of the positive z; 0 if there is none
        mipv   the mean position of the positive z, in steps; -1 if there is none
        lspv   the longest run of positive z, in steps

    Features are ordered by pooling, then dilation, kernel and bias. An item's features do not depend on the other items
    of a batch: convolutions are additions in a fixed order, so that even equal numbers compare alike.

    channels: number of channels
    steps: expected length of the longest series; `fit` replaces it by the true one
    per_kernel: number of biases of each kernel, over all dilations
    poolings: the poolings, in order

    Example:
        >>> torch.manual_seed(0).seed() and None
        >>> transform = RocketTransform(channels=1, steps=30, per_kernel=4)
        >>> series, length = torch.randn(10, 30, 1), torch.full((10,), 30)
        >>> transform.fit(series, length)
        >>> tuple(transform(series, length).shape)
        (10, 336)
    """

    dilations: Tensor
    counts: Tensor
    subsets: Tensor
    biases: Tensor
    is_fitted: Tensor

    def __init__(self, channels: int, steps: int, per_kernel: int, poolings: tuple[Pooling, ...] = ("ppv",)) -> None:
        super().__init__()
        self.channels, self.per_kernel, self.poolings = channels, per_kernel, poolings
        slots = min(MAX_DILATIONS, per_kernel)
        self.register_buffer("dilations", torch.zeros(slots, dtype=torch.int64))
        self.register_buffer("counts", torch.zeros(slots, dtype=torch.int64))
        self._set_dilations(steps)
        self.register_buffer("subsets", random_subsets(slots, channels))
        size = (self.subsets < channels).sum(2, keepdim=True)  # [slots, 84, 1]
        levels = torch.special.ndtri(quantiles(len(TRIPLES) * per_kernel).clamp(1e-3, 1 - 1e-3))
        biases = [
            level * (18 * size[slot]).sqrt()  # the standard deviation of the convolution of white noise
            for slot, level in enumerate(self._by_dilation(levels))
        ]
        self.register_buffer("biases", torch.cat([bias.flatten() for bias in biases]))
        self.register_buffer("is_fitted", torch.tensor(False))

    @property
    def num_features(self) -> int:
        return len(TRIPLES) * self.per_kernel * len(self.poolings)

    def fit(self, values: Tensor, length: Tensor) -> None:
        """Fit dilations and biases to training series `values [items, steps, channels]`, 0 after their `length
        [items]`. Until then, the biases are those of white noise. Draws from torch's global generator."""
        with torch.no_grad():
            self._set_dilations(int(length.max()))
            levels, fitted = quantiles(len(TRIPLES) * self.per_kernel).double(), []
            for slot, (dilation, level) in enumerate(zip(self._dilations(), self._by_dilation(levels), strict=True)):
                item = torch.randint(len(values), (len(TRIPLES),)).to(values.device)
                chosen = values[item].float().transpose(1, 2)  # [84, channels, steps], one series for each kernel
                own = functional.one_hot(self.subsets[slot], self.channels + 1)[..., :-1].sum(1).unsqueeze(-1)
                convolved = _Convolution((chosen * own).sum(1), length[item], dilation).of_each_kernel()
                fitted.append(_quantiles_of(convolved, length[item], level.to(values.device)).flatten())
            self.biases.copy_(torch.cat(fitted))
            self.is_fitted.fill_(True)

    def forward(self, values: Tensor, length: Tensor) -> Tensor:
        """The features `[items, num_features]` float32 of `values [items, steps, channels]`, 0 after their `length
        [items]`."""
        with torch.no_grad(), torch.autocast(values.device.type, enabled=False):
            mean_count = self.per_kernel / max(1, len(self._dilations()))
            size = max(1, int(CHUNK_VALUES / (mean_count * values.shape[1])))
            parts = [
                self._features(values[start : start + size].float(), length[start : start + size])
                for start in range(0, len(values), size)
            ]
        return torch.cat(parts) if parts else values.new_zeros(0, self.num_features, dtype=torch.float32)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> RocketTransform:
        """Move to another device or number format. The biases stay float32: rounded, they would be other thresholds."""
        biases = self.biases
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.biases = biases.to(self.biases.device)
        return self

    def _features(self, values: Tensor, length: Tensor) -> Tensor:
        items, steps, _ = values.shape
        output = values.new_empty(len(self.poolings), len(TRIPLES) * self.per_kernel, items)
        x = functional.pad(values.permute(2, 0, 1), (0, 0, 0, 0, 0, 1))  # the last channel is 0
        biases = self._by_dilation(self.biases)
        for slot, dilation in enumerate(self._dilations()):
            convolution = _Convolution(x, length, dilation)
            bias = biases[slot]
            first = len(TRIPLES) * sum(b.shape[1] for b in biases[:slot])
            own = output[:, first : first + bias.numel()].view(len(self.poolings), len(TRIPLES), -1, items)
            block = CHUNK_VALUES // (items * steps * bias.shape[1])
            block = block if block > SMALL_BLOCK else 1
            for parity in (0, 1):
                pool = _Pool(convolution.counted(parity == 1))
                for kernels in _blocks(range((parity + slot) % 2, len(TRIPLES), 2), block):
                    subsets = None if self.channels == 1 else self.subsets[slot, kernels]
                    convolved = convolution.of_kernels(kernels, subsets, is_valid_only=parity == 1)
                    pool(convolved, bias[kernels].unsqueeze(-1), self.poolings, own[:, kernels])
        return output.flatten(0, 1).T

    def _set_dilations(self, steps: int) -> None:
        found, counts = dilations(steps, self.per_kernel)
        for buffer, numbers in ((self.dilations, found), (self.counts, counts)):
            buffer.zero_()
            buffer[: len(numbers)] = torch.tensor(numbers)

    def _dilations(self) -> list[int]:
        return [dilation for dilation in self.dilations.tolist() if dilation]

    def _by_dilation(self, features: Tensor) -> list[Tensor]:
        """The `features [84 * per_kernel]` of each dilation, `[84, count]`."""
        ends = [len(TRIPLES) * end for end in accumulate(self.counts.tolist())]
        return [features[start:end].view(len(TRIPLES), -1) for start, end in pairwise([0, *ends]) if end > start]


def _positions(kernels: slice, device: torch.device) -> Tensor:
    """The positions of the three weights of these kernels, `[3, kernels]` int64."""
    flat = [position for triple in TRIPLES[kernels] for position in triple]
    return device_constant(flat, device).long().view(-1, 3).T


class _Convolution:
    """Series `x [channels, items, steps]` (or `[items, steps]`) with all kernels at one dilation, as in the paper:
    the weights -1 at all nine positions, and 3 more at three of them."""

    def __init__(self, x: Tensor, length: Tensor, dilation: int) -> None:
        self.steps, self.length, self.dilation = x.shape[-1], length, dilation
        self.padding = dilation * (KERNEL_LENGTH // 2)
        self.threes = functional.pad(3 * x, (self.padding, self.padding))
        minus = functional.pad(-x, (self.padding, self.padding))
        self.ones = -x
        for position in (0, 1, 2, 3, 5, 6, 7, 8):
            self.ones = self.ones + self._shifted(minus, position)
        at = torch.arange(self.steps, device=x.device)
        whole = at < length.unsqueeze(1)
        fits = (length > 2 * self.padding).unsqueeze(1)
        inner = (at >= self.padding) & (at < length.unsqueeze(1) - self.padding)
        self._counted = (whole, torch.where(fits, inner, whole))
        self._masked = tuple(self.ones.masked_fill(~steps, -math.inf) for steps in self._counted)

    def counted(self, is_valid_only: bool) -> Tensor:
        """The steps that are pooled, `[items, steps]` bool."""
        return self._counted[is_valid_only]

    def of_each_kernel(self) -> Tensor:
        """The convolution of item i with kernel i, `[84, steps]`."""
        windows = self.threes.unfold(-1, self.steps, self.dilation)  # [84, 9, steps]
        each = torch.arange(len(windows), device=windows.device)
        first, second, third = (windows[each, position] for position in torch.tensor(TRIPLES).T)
        return self.ones + first + second + third

    def of_kernels(self, kernels: slice, subsets: Tensor | None, *, is_valid_only: bool) -> Tensor:
        """The convolutions `[kernels, items, steps]`; -inf at the steps that are not pooled.

        subsets: the channels of each kernel, `[kernels, 9]`; None for a single channel
        """
        ones, threes = self._masked[is_valid_only], self.threes
        if subsets is None:
            ones, threes = ones[:1], threes[:1]
        else:
            ones, threes = _sum_channels(ones, subsets), _sum_channels(threes, subsets)
        triples = TRIPLES[kernels]
        if len(triples) == 1:
            first, second, third = (self._shifted(threes, position) for position in triples[0])
        else:
            windows = threes.unfold(-1, self.steps, self.dilation)  # [kernels, items, 9, steps]
            each = torch.arange(len(triples), device=windows.device).clamp_max(len(windows) - 1)
            positions = _positions(kernels, windows.device)
            first, second, third = (windows[each, :, position] for position in positions)
        return (ones + first).add_(second).add_(third)

    def _shifted(self, padded: Tensor, position: int) -> Tensor:
        return padded.narrow(-1, position * self.dilation, self.steps)


def _sum_channels(x: Tensor, subsets: Tensor) -> Tensor:
    """The sums over the channels of each subset `[kernels, 9]`, `[kernels, items, steps]`, in a fixed order."""
    largest = int((subsets < len(x) - 1).sum(1).max())
    total = x[subsets[:, 0]]
    for number in range(1, largest):
        total += x[subsets[:, number]].masked_fill(x.isneginf()[-1], 0)
    return total


class _Pool:
    """Pools convolutions over the steps `counted [items, steps]`, which are consecutive."""

    def __init__(self, counted: Tensor) -> None:
        self.total = counted.sum(1).float()
        self.first = counted.int().argmax(1, keepdim=True)
        self.at = torch.arange(counted.shape[1], device=counted.device)
        self._above = torch.empty(0, device=counted.device)

    def __call__(self, convolved: Tensor, bias: Tensor, poolings: tuple[Pooling, ...], output: Tensor) -> None:
        """Write the features of some kernels into `output [poolings, kernels, count, items]`.

        convolved: `[kernels, items, steps]`
        bias: `[kernels, count, 1]`
        """
        convolved, bias = convolved.unsqueeze(1), bias.unsqueeze(-1)
        shape = (len(bias), bias.shape[1], *convolved.shape[2:])
        if self._above.shape != shape:
            self._above = torch.empty(shape, device=convolved.device)
        above = torch.gt(convolved, bias, out=self._above)
        count = above.sum(-1)
        for pooling, found in zip(poolings, output, strict=True):
            if pooling == "ppv":
                torch.div(count, self.total, out=found)
            elif pooling == "mpv":
                found.copy_((convolved - bias).clamp_min_(0).sum(-1) / count.clamp_min(1))
            elif pooling == "mipv":
                position = (above * (self.at - self.first)).sum(-1) / count.clamp_min(1)
                found.copy_(torch.where(count > 0, position, -1.0))
            else:
                last = torch.where(above > 0, -1, self.at).cummax(-1).values  # the last step that is not above
                longest = (self.at - torch.maximum(last, self.first - 1)).amax(-1)
                found.copy_(torch.where(count > 0, longest, 0))


def _blocks(kernels: range, size: int) -> list[slice]:
    """The numbers of `kernels` in slices of at most `size`."""
    starts = kernels[::size]
    return [slice(start, min(start + size * kernels.step, kernels.stop), kernels.step) for start in starts]


def dilations(steps: int, features: int) -> tuple[list[int], list[int]]:
    """Dilations from 1 to the largest at which a kernel fits into `steps`, evenly spaced on a logarithmic scale, and
    the number of features of each dilation; these numbers sum to `features`.
    """
    largest = math.log2(max(1.0, (steps - 1) / (KERNEL_LENGTH - 1)))
    slots = min(MAX_DILATIONS, features)
    spaced = (2 ** torch.linspace(0, largest, slots, dtype=torch.float64) + 1e-9).long()
    repeats = Counter(spaced.tolist())
    counts = [int(number * features / slots) for number in repeats.values()]
    for extra in range(features - sum(counts)):
        counts[extra % len(counts)] += 1
    return list(repeats), counts


def random_subsets(slots: int, channels: int) -> Tensor:
    """The channels of each combination of kernel and dilation, `[slots, 84, 9]` int64, padded with the number
    `channels`. A subset has at most nine channels; small subsets are more probable.
    """
    shape = (slots, len(TRIPLES))
    size = (2 ** (torch.rand(*shape, 1) * math.log2(min(channels, KERNEL_LENGTH) + 1))).long().clamp(1, channels)
    order = torch.rand(*shape, channels).argsort(-1)[..., :KERNEL_LENGTH]
    order = functional.pad(order, (0, KERNEL_LENGTH - order.shape[-1]), value=channels)
    return torch.where(torch.arange(KERNEL_LENGTH) < size, order, channels)


def quantiles(count: int) -> Tensor:
    """The levels `[count]`, evenly spread over (0, 1): fractional parts of multiples of the golden ratio."""
    return (torch.arange(1, count + 1, dtype=torch.float64) * ((math.sqrt(5) + 1) / 2) % 1).float()


def _quantiles_of(x: Tensor, length: Tensor, levels: Tensor) -> Tensor:
    """The quantiles of each row of `x [rows, steps]` up to its length, at its own `levels [rows, count]`, with linear
    interpolation."""
    real = torch.arange(x.shape[1], device=x.device) < length.unsqueeze(1)
    ordered = x.double().masked_fill(~real, math.inf).sort(1).values
    position = levels * (length.unsqueeze(1) - 1)
    low = position.floor().long()
    high = torch.minimum(low + 1, length.unsqueeze(1) - 1)
    below, above = ordered.gather(1, low), ordered.gather(1, high)
    return torch.lerp(below, above, position - low).float()
