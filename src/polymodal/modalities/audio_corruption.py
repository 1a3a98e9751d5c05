"""Corruptions of audio, for robustness tests.

Every function takes a list of recordings, each float32 `[samples, channels]` of any length, and a strength from 0
(barely changed) to 1 (hard to use for a human). It returns new recordings of the same shapes.
"""

from __future__ import annotations

import numpy as np

#: Seconds in a packet, for `packet_loss`; maximum fraction of lost packets, and maximum reverberation time (60 dB).
PACKET_SECONDS, MAX_LOSS_FRACTION, MAX_DECAY_SECONDS = 0.04, 0.8, 2.0
#: Signal-to-noise ratio of `white_noise` and `babble` in dB, at strength 0 and 1; number of voices in the babble.
CLEAN_SNR, NOISY_SNR, NUM_VOICES = 30.0, -5.0, 4


def white_noise(signals: list[np.ndarray], strength: float, draw: np.random.Generator) -> list[np.ndarray]:
    """White noise, from 30 dB below the signal (strength 0) to 5 dB above it (1)."""
    return [_mixed(one, draw.standard_normal(one.shape, np.float32), strength) for one in signals]


def babble(signals: list[np.ndarray], strength: float, draw: np.random.Generator) -> list[np.ndarray]:
    """Four other recordings at once, repeated to the length of the signal, from 30 dB below it to 5 dB above.

    If there is no other recording, shifted copies of the signal itself are used.
    """
    corrupted = []
    for index, one in enumerate(signals):
        others = [at for at, other in enumerate(signals) if at != index and other.any()] or [index]
        crowd = np.zeros_like(one)
        for other in draw.choice(others, NUM_VOICES):
            voice = np.roll(signals[other], int(draw.integers(len(signals[other]))), axis=0)
            crowd += np.resize(voice / max(_level(voice), 1e-6), one.shape)
        corrupted.append(_mixed(one, crowd, strength))
    return corrupted


def reverberation(signals: list[np.ndarray], strength: float, rate: int, draw: np.random.Generator) -> list[np.ndarray]:
    """Reverberation of an ever larger, barer room: convolution with a unit impulse and decaying noise,

        h(t) = delta(t) + a n(t) 10^(-3 t / T),   T = 2 s * strength

    (J. A. Moorer, "About This Reverberation Business", 1979), with the noise n from 20 dB below the direct signal to 5
    dB above. The level of the signal is kept, and the echo after its end is dropped.
    """
    decay = MAX_DECAY_SECONDS * strength
    time = np.arange(1, max(2, round(decay * rate))) / rate
    tail = draw.standard_normal(len(time)) * 10 ** (-3 * time / max(decay, 1e-6))
    tail *= 10 ** ((25 * strength - 20) / 20) / max(float(np.sqrt(np.square(tail).sum())), 1e-12)
    impulse = np.concatenate([[1.0], tail])
    corrupted = []
    for one in signals:
        size = 1 << (len(one) + len(impulse) - 1).bit_length()
        wave = np.fft.irfft(np.fft.rfft(one, size, axis=0) * np.fft.rfft(impulse, size)[:, None], size, axis=0)
        wave = wave[: len(one)]
        corrupted.append((wave * (_level(one) / max(_level(wave), 1e-9))).astype(np.float32))
    return corrupted


def hard_clipping(signals: list[np.ndarray], strength: float) -> list[np.ndarray]:
    """Amplified by up to 40 dB and hard-clipped at its own peak."""
    gain = np.float32(10 ** (40 * strength / 20))
    return [np.clip(one * gain, -np.abs(one).max(initial=0), np.abs(one).max(initial=0)) for one in signals]


def packet_loss(signals: list[np.ndarray], strength: float, rate: int, draw: np.random.Generator) -> list[np.ndarray]:
    """Zero packets of 40 ms, each with the same probability of up to 80 %."""
    size = max(1, round(PACKET_SECONDS * rate))
    corrupted = []
    for one in signals:
        kept = draw.random(-(-len(one) // size)) >= MAX_LOSS_FRACTION * strength
        corrupted.append(one * np.repeat(kept, size)[: len(one), None])
    return corrupted


def _mixed(signal: np.ndarray, noise: np.ndarray, strength: float) -> np.ndarray:
    """The signal and `noise` mixed at the ratio of the strength. Digital silence stays unchanged."""
    ratio = CLEAN_SNR + (NOISY_SNR - CLEAN_SNR) * strength
    return signal + noise * np.float32(_level(signal) / max(_level(noise), 1e-9) * 10 ** (-ratio / 20))


def _level(signal: np.ndarray) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(signal, dtype=np.float64)))) if signal.size else 0.0
