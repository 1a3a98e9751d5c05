"""Corruptions of audio, for robustness tests.

Every function takes a list of recordings, each float32 `[samples, channels]` of any length, and a strength from 0 (barely
changed) to 1 (hard to use for a human). It returns new recordings of the same shapes.
"""

from __future__ import annotations

import numpy as np

#: Seconds in a packet of sound, for `loss`; most packets lost, and longest reverberation (60 dB), at full strength.
PACKET, MOST_LOST, LONGEST_DECAY = 0.04, 0.8, 2.0
#: Signal-to-noise ratio of `noise` and `babble` in dB, at strength 0 and 1; talkers in the babble.
CLEAN, NOISY, TALKERS = 30.0, -5.0, 4


def white_noise(sounds: list[np.ndarray], strength: float, draw: np.random.Generator) -> list[np.ndarray]:
    """Noise of all frequencies, from 30 dB below the sound (strength 0) to 5 dB above it (1).

    This and what follows: float32 `[samples, channels]` each, any length; the same shapes come back.
    """
    return [_mixed(one, draw.standard_normal(one.shape, np.float32), strength) for one in sounds]


def babble(sounds: list[np.ndarray], strength: float, draw: np.random.Generator) -> list[np.ndarray]:
    """Four other sounds at once, repeated to the length of the first, from 30 dB below it to 5 dB above.

    Where there is no other sound to draw, it is talked over by itself, each time from another place.
    """
    found = []
    for place, one in enumerate(sounds):
        others = [at for at, other in enumerate(sounds) if at != place and other.any()] or [place]
        crowd = np.zeros_like(one)
        for other in draw.choice(others, TALKERS):
            voice = np.roll(sounds[other], int(draw.integers(len(sounds[other]))), axis=0)
            crowd += np.resize(voice / max(_level(voice), 1e-6), one.shape)
        found.append(_mixed(one, crowd, strength))
    return found


def reverberation(sounds: list[np.ndarray], strength: float, rate: int, draw: np.random.Generator) -> list[np.ndarray]:
    """The sound as in an ever larger, barer room: convolved with a unit impulse and decaying noise,

        h(t) = delta(t) + a n(t) 10^(-3 t / T),   T = 2 s * strength

    (J. A. Moorer, "About This Reverberation Business", 1979), the noise n from 20 dB below the direct sound to 5 dB
    above. The level of the sound is kept, and what rings on after its end is lost.
    """
    decay = LONGEST_DECAY * strength
    time = np.arange(1, max(2, round(decay * rate))) / rate
    tail = draw.standard_normal(len(time)) * 10 ** (-3 * time / max(decay, 1e-6))
    tail *= 10 ** ((25 * strength - 20) / 20) / max(float(np.sqrt(np.square(tail).sum())), 1e-12)
    impulse = np.concatenate([[1.0], tail])
    found = []
    for one in sounds:
        size = 1 << (len(one) + len(impulse) - 1).bit_length()
        wave = np.fft.irfft(np.fft.rfft(one, size, axis=0) * np.fft.rfft(impulse, size)[:, None], size, axis=0)
        wave = wave[: len(one)]
        found.append((wave * (_level(one) / max(_level(wave), 1e-9))).astype(np.float32))
    return found


def clipping(sounds: list[np.ndarray], strength: float) -> list[np.ndarray]:
    """Turned up by up to 40 dB and cut off hard at its own peak."""
    gain = np.float32(10 ** (40 * strength / 20))
    return [np.clip(one * gain, -np.abs(one).max(initial=0), np.abs(one).max(initial=0)) for one in sounds]


def loss(sounds: list[np.ndarray], strength: float, rate: int, draw: np.random.Generator) -> list[np.ndarray]:
    """Packets of 40 ms fall silent, each with the same chance, of up to 80 %."""
    size = max(1, round(PACKET * rate))
    found = []
    for one in sounds:
        kept = draw.random(-(-len(one) // size)) >= MOST_LOST * strength
        found.append(one * np.repeat(kept, size)[: len(one), None])
    return found


def _mixed(sound: np.ndarray, noise: np.ndarray, strength: float) -> np.ndarray:
    """The sound and `noise` at the ratio that belongs to the strength; silence stays silent."""
    ratio = CLEAN + (NOISY - CLEAN) * strength
    return sound + noise * np.float32(_level(sound) / max(_level(noise), 1e-9) * 10 ** (-ratio / 20))


def _level(sound: np.ndarray) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(sound, dtype=np.float64)))) if sound.size else 0.0
