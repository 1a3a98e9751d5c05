"""Mel filter banks and band energies, as in the feature extractors of pretrained audio networks."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from polymodal.runtime.host_reads import copy_on

MelScale = Literal["slaney", "htk", "kaldi"]

CHUNK_SAMPLES = 1 << 17  # samples per transform: their spectra fit into the cache of a CPU core


def mel_energy(waveform: Tensor, window: Tensor, hop: int, filters: Tensor, *, preemphasis: float = 0.0) -> Tensor:
    """`waveform [items, samples]` -> band energies `[items, frames, bands]` fp32; frames have the length of `window`
    and start every `hop` samples.

        E[t, m] = sum_k |FFT(window y_t)[k]|^2 W[k, m]

    y_t is frame t or, with `preemphasis` p, y[n] = x[n] - p x[n - 1] of the frame x with its mean removed, where
    x[-1] = x[0]. The length of the transform follows from `filters [bins, bands]`. It runs in fp64, since in fp32 the
    rounding errors of a loud tone would exceed the energy of quiet bands, which the logarithm amplifies.
    """
    size = 2 * (len(filters) - 1)
    window = copy_on(window, waveform.device).to(torch.float64)
    filters = copy_on(filters, waveform.device)
    frames = (waveform.shape[1] - len(window)) // hop + 1
    result = waveform.new_empty(len(waveform), frames, filters.shape[1], dtype=torch.float32)
    for start in range(0, len(waveform), step := max(1, CHUNK_SAMPLES // waveform.shape[1])):
        part = waveform[start : start + step].double().unfold(1, len(window), hop)
        if preemphasis:
            part = part - part.mean(2, keepdim=True)
            part = torch.cat([part[:, :, :1] * (1 - preemphasis), part[:, :, 1:] - preemphasis * part[:, :, :-1]], 2)
        spectrum = torch.fft.rfft(part * window, n=size)
        power = torch.addcmul(spectrum.real.square(), spectrum.imag, spectrum.imag).float()
        result[start : start + step] = power @ filters
    return result


def mel_filterbank(bins: int, bands: int, low: float, high: float, rate: int, scale: MelScale) -> Tensor:
    """Triangular filters `[bins, bands]` fp32 from `low` to `high` Hz, whose edges e_0 ... e_{bands + 1} are evenly
    spaced on a mel scale; bin k has the frequency f_k = k rate / (2 (bins - 1)).

        slaney: mel(f) = 3 f / 200 below 1000 Hz, 15 + 27 ln(f / 1000) / ln 6.4 above; each filter has area 1
        htk:    mel(f) = 2595 log10(1 + f / 700); each filter has height 1
        kaldi:  mel(f) = 1127 ln(1 + f / 700); each filter has height 1 and is linear in mel(f), not in f

    (Slaney, "Auditory Toolbox", 1998; Young et al., "The HTK Book", 2006; Povey et al., "The Kaldi Speech Recognition
    Toolkit", 2011.)
    """
    pitch, frequency = _MEL_SCALES[scale]
    ends = pitch(torch.tensor([low, high], dtype=torch.float64))
    edges = torch.linspace(float(ends[0]), float(ends[1]), bands + 2, dtype=torch.float64)
    position = torch.linspace(0, rate / 2, bins, dtype=torch.float64)
    edges, position = (edges, pitch(position)) if scale == "kaldi" else (frequency(edges), position)
    left, middle, right = edges[:-2], edges[1:-1], edges[2:]
    position = position.unsqueeze(1)
    filters = torch.minimum((position - left) / (middle - left), (right - position) / (right - middle)).clamp_min(0)
    if scale == "slaney":
        filters = filters * 2 / (right - left)
    return filters.float()


def _hz_to_slaney(frequency: Tensor) -> Tensor:
    above = 15 + 27 * (frequency.clamp_min(1000) / 1000).log() / math.log(6.4)
    return torch.where(frequency < 1000, frequency * 3 / 200, above)


def _slaney_to_hz(mel: Tensor) -> Tensor:
    return torch.where(mel < 15, mel * 200 / 3, 1000 * ((mel - 15) * math.log(6.4) / 27).exp())


#: Conversions from Hz to each scale, and back.
_MEL_SCALES = {
    "slaney": (_hz_to_slaney, _slaney_to_hz),
    "htk": (lambda f: 2595 * (1 + f / 700).log10(), lambda mel: 700 * (10 ** (mel / 2595) - 1)),
    "kaldi": (lambda f: 1127 * (1 + f / 700).log(), lambda mel: 700 * ((mel / 1127).exp() - 1)),
}
