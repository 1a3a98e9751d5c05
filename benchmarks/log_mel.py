"""Log-mel spectrograms against the feature extractor of Whisper in transformers."""

from __future__ import annotations

import statistics
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from benchmarks.library import run_other
from benchmarks.measure import Run, interleaved
from benchmarks.record import Record
from polymodal.nn.encoders.logmel import LogMel, LogMelOptions
from polymodal.runtime.compute import ComputeConfig

RATE, WITHIN = 16_000, 1e-4
#: Each way of calling the extractor, and the frames at a clip's end where it mirrors the clip and silence is not heard.
VARIANTS = {"padded": 0, "longest": 2, "single": 2}


def run(smallest: bool) -> Record:
    """Clips per second from waveforms in memory to features in memory."""
    record = Record(
        name="log_mel",
        title="Log-mel spectrograms",
        method=(
            "The same clips of 10 s of noise and tones in memory, 16 kHz, 80 bands, to the features that Whisper "
            "reads, on one thread. 'Padded' is a call of WhisperFeatureExtractor (transformers) with its defaults, "
            "which pad to 30 s; 'longest' one call padded to the longest clip; 'single' a call for each clip, without "
            "padding. All use torch. Before anything is timed, the features are compared number by number: they differ "
            f"by less than {WITHIN:g}, save for the last two frames of 'longest' and 'single', which mirror a clip at "
            "its end. Both sides are warm; a round takes the median of several calls."
        ),
        unit="clips/s",
        larger_is_better=True,
    )
    clips, seconds = (made_clips(4, 1.0), 0.1) if smallest else (made_clips(64, 10.0), 3.0)
    options = LogMelOptions(name="whisper", n_mels=80, window_seconds=0.025, hop_seconds=0.01, normalization="whisper")
    front, length = LogMel(options, RATE).eval(), torch.tensor([len(clip) for clip in clips])

    def features() -> torch.Tensor:
        values = torch.zeros(len(clips), 1, int(length.max()))
        for row, clip in enumerate(clips):
            values[row, 0, : len(clip)] = torch.from_numpy(clip)
        return front(values, length)[0]

    def ours() -> float:
        rates: list[float] = []
        with ComputeConfig("fp32", 1).active():
            start = time.perf_counter()
            while time.perf_counter() - start < seconds or len(rates) < 2:
                before = time.perf_counter()
                features()
                rates.append(len(clips) / (time.perf_counter() - before))
        return statistics.median(rates)

    with TemporaryDirectory() as folder:
        file, written = Path(folder) / "clips.npy", Path(folder) / "features.npy"
        np.save(file, np.stack(clips))

        def theirs(variant: str) -> float:
            arguments = (variant, written, seconds)
            result = run_other("transformers", "whisper_features_run.py", file, *arguments, threads=1)
            record.facts |= {key: value for key, value in result.items() if key != "clips_per_second"}
            return float(result["clips_per_second"])

        for variant, mirrored in VARIANTS.items():
            theirs(variant)
            distance = difference(features()[:, 0].transpose(1, 2).numpy(), np.load(written), mirrored)
            record.facts[f"largest difference, {variant}"] = distance
        contestants: dict[str, Run] = {"Polymodal": ours}
        contestants |= {f"extractor, {variant}": partial(theirs, variant) for variant in VARIANTS}
        interleaved(record, contestants, 1 if smallest else 5, warm=0 if smallest else 1)
    for variant in VARIANTS:
        record.compare("Polymodal", f"extractor, {variant}", target=1.0)
    record.facts |= {"clips": len(clips), "seconds of a clip": len(clips[0]) / RATE}
    return record


def made_clips(count: int, seconds: float) -> list[np.ndarray]:
    """Tones that come and go in noise, `[samples]` float32 each."""
    draw, time_axis = np.random.default_rng(0), np.arange(int(seconds * RATE)) / RATE
    tones = np.sin(2 * np.pi * draw.uniform(80, 6000, (count, 1)) * time_axis)
    swell = np.sin(2 * np.pi * draw.uniform(0.3, 3, (count, 1)) * time_axis) ** 2
    noise = draw.normal(size=tones.shape) * draw.uniform(1e-3, 0.1, (count, 1))
    return list((0.3 * tones * swell + noise).astype(np.float32))


def difference(ours: np.ndarray, theirs: np.ndarray, mirrored: int) -> float:
    """The largest difference of two `[clips, bands, frames]`, without the last `mirrored` frames.

    Raises:
        RuntimeError: they are not the same features; rates would mean nothing.
    """
    frames = ours.shape[2] - mirrored
    found = float(np.abs(ours[:, :, :frames] - theirs[:, :, :frames]).max())
    if ours.shape != theirs.shape or not found < WITHIN:
        raise RuntimeError(f"features differ by {found:g}: {ours.shape} and {theirs.shape}")
    return found
