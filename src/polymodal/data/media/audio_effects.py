"""What may be done to a decoded sound: cut quiet ends, set the level, gate noise, keep the voice.

Sounds are float32 `[samples, channels]`, full scale from -1 to 1; nothing is changed in place.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

#: Levels that `normalise` brings the peak and the RMS to, as a share of full scale: -1 dB and -20 dB.
PEAK, RMS = 10 ** (-1 / 20), 10 ** (-20 / 20)
_TINY = 1e-10


def trim(values: np.ndarray, rate: int, below: float) -> np.ndarray:
    """Without the ends in which every 20 ms have a power more than `below` dB under that of the loudest 20 ms.

    Digital silence has no loudest moment and is returned whole.
    """
    size = max(1, round(0.02 * rate))
    power = _power(values, size, size)
    if power.max() <= 0:
        return values
    loud = np.flatnonzero(power >= power.max() * 10 ** (-below / 10))
    return values[loud[0] * size : (loud[-1] + 1) * size]


def normalise(values: np.ndarray, by: Literal["peak", "rms"]) -> np.ndarray:
    """At the stated level (`PEAK` or `RMS`), but never over full scale; digital silence stays as it is."""
    peak = float(np.abs(values).max(initial=0))
    if peak == 0:
        return values
    gain = PEAK / peak
    if by == "rms":
        gain = min(RMS / float(np.sqrt(np.mean(np.square(values, dtype=np.float64)))), 1 / peak)
    return values * np.float32(gain)


def denoise(values: np.ndarray, rate: int) -> np.ndarray:
    """Spectral gating: what does not rise above the noise floor of its frequency is turned down by 20 dB.

    With X(t, f) the short-time Fourier transform (32 ms, square-root Hann windows, half overlapping), the floor N(f)
    is the mean of |X(t, f)|^2 over the tenth of the frames that is quietest, and

        M(t, f) = 1 if |X(t, f)|^2 > 6 N(f), else 0
        Y(t, f) = X(t, f) (0.1 + 0.9 S(t, f)),   S = max(M, mean of M over 3 frames and 3 frequencies)

    After S. F. Boll, "Suppression of Acoustic Noise in Speech Using Spectral Subtraction" (1979), with a gate in place
    of the subtraction; white noise alone passes it in e^-6 of the cells. Steady noise and a few quiet frames are
    assumed: of a sound without pauses, its own steady parts are taken for noise. Each channel has its own floor.
    """
    size = max(16, 2 * round(0.016 * rate))
    return np.stack([_gate_noise(channel, size) for channel in values.T], axis=1)


def _gate_noise(samples: np.ndarray, size: int) -> np.ndarray:
    hop, count = size // 2, len(samples)
    frames = -(-count // hop) + 1
    line = np.zeros((frames + 1) * hop, np.float32)
    line[hop : hop + count] = samples
    window = np.sqrt(np.hanning(size + 1)[:-1]).astype(np.float32)
    cut = np.lib.stride_tricks.sliding_window_view(line, size)[::hop]
    spectrum = np.fft.rfft(cut * window, axis=1)
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    whole = power[1:-1] if frames > 2 else power  # the first and the last frame are half empty
    energy = whole.sum(1)
    quiet = np.argsort(energy, kind="stable")[: max(1, len(energy) // 10)]
    gate = (power > 6 * whole[quiet].mean(0)).astype(np.float32)
    gate = np.maximum(gate, _smooth(_smooth(gate, 0), 1))
    back = np.fft.irfft(spectrum * (0.1 + 0.9 * gate), size, axis=1).astype(np.float32) * window
    clean = np.zeros_like(line)
    clean[:-hop] += back[:, :hop].reshape(-1)
    clean[hop:] += back[:, hop:].reshape(-1)
    return clean[hop : hop + count]


def _smooth(gate: np.ndarray, axis: int) -> np.ndarray:
    """The mean of each three neighbours along `axis`; the ends count twice."""
    wide = np.pad(gate, [(1, 1) if at == axis else (0, 0) for at in (0, 1)], mode="edge")
    count = gate.shape[axis]
    before, here, after = (wide.take(range(at, at + count), axis) for at in (0, 1, 2))
    return (before + here + after) / np.float32(3)


def voiced(values: np.ndarray, rate: int) -> np.ndarray:
    """The stretches that hold a voice, joined; a sound in which none is found is returned whole.

    A frame of 25 ms (every 10 ms) is voiced if, between 80 and 4,000 Hz, both

        10 log10 E(t) > F + 9,   F = 10th percentile of 10 log10 E, from max - 60 to max - 30
        10 log10 (geometric mean / arithmetic mean of |X(t, f)|^2) < -5

    that is, it is louder than the floor and its spectrum has peaks (white noise has a flatness of -2.5 dB). Gaps of up
    to 0.2 s between voiced frames are kept, and 0.1 s at both sides, where unvoiced consonants are. Energy and
    flatness as in M. H. Moattar and M. M. Homayounpour, "A Simple but Efficient Real-Time Voice Activity Detection
    Algorithm" (2009), with a floor from the whole recording in place of their running minimum.
    """
    size, hop = max(16, round(0.025 * rate)), max(1, round(0.01 * rate))
    mono = values.mean(axis=1)
    if len(mono) < size:
        return values
    cut = np.lib.stride_tricks.sliding_window_view(mono, size)[::hop]
    spectrum = np.fft.rfft(cut * np.hanning(size).astype(np.float32), axis=1)
    frequency = np.fft.rfftfreq(size, 1 / rate)
    band = (frequency >= 80) & (frequency <= 4_000)
    power = np.square(spectrum[:, band].real) + np.square(spectrum[:, band].imag) + np.float32(_TINY)
    mean = power.mean(axis=1)
    energy = 10 * np.log10(mean)
    flatness = 10 * np.log10(np.exp(np.log(power).mean(axis=1)) / mean)
    floor = np.clip(np.percentile(energy, 10), energy.max() - 60, energy.max() - 30)
    voice = np.flatnonzero((energy > floor + 9) & (flatness < -5) & (mean > 10 * _TINY))
    if len(voice) == 0:
        return values
    keep = np.zeros(len(values), bool)
    margin = round(0.1 * rate)
    for frame in voice:
        keep[max(0, frame * hop - margin) : frame * hop + size + margin] = True
    return values[keep]


def _power(values: np.ndarray, size: int, hop: int) -> np.ndarray:
    """Mean square of frames that begin every `hop` samples; the last ones may be shorter."""
    starts = np.arange(0, len(values), hop)
    square = np.square(values, dtype=np.float64).mean(axis=1)
    total = np.concatenate([[0.0], np.cumsum(square)])
    ends = np.minimum(starts + size, len(values))
    return (total[ends] - total[starts]) / (ends - starts)
