"""Effects on decoded audio: trim silence, normalize the level, remove noise, keep speech.

Audio is float32 `[samples, channels]`, full scale from -1 to 1. Inputs are never changed in place.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

#: Target levels of `normalize` for the peak and the RMS, as a fraction of full scale: -1 dB and -20 dB.
PEAK_LEVEL, RMS_LEVEL = 10 ** (-1 / 20), 10 ** (-20 / 20)
_TINY = 1e-10


def trim_silence(values: np.ndarray, rate: int, below: float) -> np.ndarray:
    """Remove both ends in which the power of every 20 ms is more than `below` dB under that of the loudest 20 ms.

    Digital silence is returned unchanged.
    """
    size = max(1, round(0.02 * rate))
    power = _power(values, size, size)
    if power.max() <= 0:
        return values
    loud = np.flatnonzero(power >= power.max() * 10 ** (-below / 10))
    return values[loud[0] * size : (loud[-1] + 1) * size]


def normalize(values: np.ndarray, by: Literal["peak", "rms"]) -> np.ndarray:
    """Scale the audio to the target level (`PEAK_LEVEL` or `RMS_LEVEL`), but never over full scale. Digital silence
    is unchanged."""
    peak = float(np.abs(values).max(initial=0))
    if peak == 0:
        return values
    gain = PEAK_LEVEL / peak
    if by == "rms":
        gain = min(RMS_LEVEL / float(np.sqrt(np.mean(np.square(values, dtype=np.float64)))), 1 / peak)
    return values * np.float32(gain)


def denoise(values: np.ndarray, rate: int) -> np.ndarray:
    """Spectral gating: attenuate by 20 dB everything that is not above the noise level of its frequency.

    With X(t, f) the short-time Fourier transform (32 ms, square-root Hann windows, half overlapping), the noise level
    N(f) is the mean of |X(t, f)|^2 over the quietest tenth of the frames, and

        M(t, f) = 1 if |X(t, f)|^2 > 6 N(f), else 0
        Y(t, f) = X(t, f) (0.1 + 0.9 S(t, f)),   S = max(M, mean of M over 3 frames and 3 frequencies)

    After S. F. Boll, "Suppression of Acoustic Noise in Speech Using Spectral Subtraction" (1979), with a gate instead
    of the subtraction. Pure white noise passes it in e^-6 of the cells. The method assumes steady noise and a few quiet
    frames: without pauses, the steady parts of the signal count as noise. Each channel has its own noise level.
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
    """The mean of each three neighbors along `axis`; the ends count twice."""
    wide = np.pad(gate, [(1, 1) if at == axis else (0, 0) for at in (0, 1)], mode="edge")
    count = gate.shape[axis]
    before, here, after = (wide.take(range(at, at + count), axis) for at in (0, 1, 2))
    return (before + here + after) / np.float32(3)


def keep_voiced(values: np.ndarray, rate: int) -> np.ndarray:
    """The segments with speech, concatenated. Audio without detected speech is returned unchanged.

    A frame of 25 ms (every 10 ms) is voiced if, between 80 and 4,000 Hz, both

        10 log10 E(t) > F + 9,   F = 10th percentile of 10 log10 E, from max - 60 to max - 30
        10 log10 (geometric mean / arithmetic mean of |X(t, f)|^2) < -5

    that is, it is louder than the noise level F and its spectrum has peaks (white noise has a flatness of -2.5 dB).
    Gaps of up to 0.2 s between voiced frames are kept, and 0.1 s on both sides, where unvoiced consonants are. Energy
    and flatness as in M. H. Moattar and M. M. Homayounpour, "A Simple but Efficient Real-Time Voice Activity Detection
    Algorithm" (2009), with a noise level from the whole recording instead of their running minimum.
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
    noise_level = np.clip(np.percentile(energy, 10), energy.max() - 60, energy.max() - 30)
    voice = np.flatnonzero((energy > noise_level + 9) & (flatness < -5) & (mean > 10 * _TINY))
    if len(voice) == 0:
        return values
    keep = np.zeros(len(values), bool)
    margin = round(0.1 * rate)
    for frame in voice:
        keep[max(0, frame * hop - margin) : frame * hop + size + margin] = True
    return values[keep]


def _power(values: np.ndarray, size: int, hop: int) -> np.ndarray:
    """Mean square of frames that begin every `hop` samples. The last frames may be shorter."""
    starts = np.arange(0, len(values), hop)
    square = np.square(values, dtype=np.float64).mean(axis=1)
    total = np.concatenate([[0.0], np.cumsum(square)])
    ends = np.minimum(starts + size, len(values))
    return (total[ends] - total[starts]) / (ends - starts)
