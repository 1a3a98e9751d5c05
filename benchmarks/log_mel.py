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

RATE, TOLERANCE = 16_000, 1e-4
#: How the extractor is called, and the number of last frames of an audio segment that it mirrors.
VARIANTS = {"padded": 0, "longest": 2, "single": 2}


def run(smallest: bool) -> Record:
    """Audio segments per second, from waveforms in memory to features in memory."""
    record = Record(
        name="log_mel",
        title="Log-mel spectrograms",
        method=(
            "From the same segments of 10 s of noise and tones in memory, 16 kHz, to the log-mel features of Whisper "
            "with 80 bands, on one thread. 'Padded' is a call of WhisperFeatureExtractor (transformers) with its "
            "defaults, which pad to 30 s; 'longest' is one call padded to the longest segment; 'single' is one call "
            "per segment, without padding. All use torch. The features are compared before the timing: they differ "
            f"by less than {TOLERANCE:g}, except for the last two frames of 'longest' and 'single', which mirror the "
            "end of a segment. Both sides are warm; a round takes the median of several calls."
        ),
        unit="segments/s",
        larger_is_better=True,
    )
    segments, seconds = (make_segments(4, 1.0), 0.1) if smallest else (make_segments(64, 10.0), 3.0)
    options = LogMelOptions(name="whisper", n_mels=80, window_seconds=0.025, hop_seconds=0.01, normalization="whisper")
    front, length = LogMel(options, RATE).eval(), torch.tensor([len(segment) for segment in segments])

    def features() -> torch.Tensor:
        values = torch.zeros(len(segments), 1, int(length.max()))
        for row, segment in enumerate(segments):
            values[row, 0, : len(segment)] = torch.from_numpy(segment)
        return front(values, length)[0]

    def ours() -> float:
        rates: list[float] = []
        with ComputeConfig("fp32", 1).active():
            start = time.perf_counter()
            while time.perf_counter() - start < seconds or len(rates) < 2:
                before = time.perf_counter()
                features()
                rates.append(len(segments) / (time.perf_counter() - before))
        return statistics.median(rates)

    with TemporaryDirectory() as folder:
        file, features_file = Path(folder) / "segments.npy", Path(folder) / "features.npy"
        np.save(file, np.stack(segments))

        def theirs(variant: str) -> float:
            arguments = (variant, features_file, seconds)
            result = run_other("transformers", "whisper_features_run.py", file, *arguments, threads=1)
            record.facts |= {key: value for key, value in result.items() if key != "segments_per_second"}
            return float(result["segments_per_second"])

        for variant, num_mirrored in VARIANTS.items():
            theirs(variant)
            distance = difference(features()[:, 0].transpose(1, 2).numpy(), np.load(features_file), num_mirrored)
            record.facts[f"largest difference, {variant}"] = distance
        contestants: dict[str, Run] = {"Polymodal": ours}
        contestants |= {f"extractor, {variant}": partial(theirs, variant) for variant in VARIANTS}
        interleaved(record, contestants, 1 if smallest else 5, warm=0 if smallest else 1)
    for variant in VARIANTS:
        record.compare("Polymodal", f"extractor, {variant}", target=1.0)
    record.facts |= {"segments": len(segments), "seconds of a segment": len(segments[0]) / RATE}
    return record


def make_segments(count: int, seconds: float) -> list[np.ndarray]:
    """Tones of varying loudness in noise, `[samples]` float32 each."""
    draw, time_axis = np.random.default_rng(0), np.arange(int(seconds * RATE)) / RATE
    tones = np.sin(2 * np.pi * draw.uniform(80, 6000, (count, 1)) * time_axis)
    swell = np.sin(2 * np.pi * draw.uniform(0.3, 3, (count, 1)) * time_axis) ** 2
    noise = draw.normal(size=tones.shape) * draw.uniform(1e-3, 0.1, (count, 1))
    return list((0.3 * tones * swell + noise).astype(np.float32))


def difference(ours: np.ndarray, theirs: np.ndarray, num_mirrored: int) -> float:
    """The largest difference of two `[segments, bands, frames]`, without the last `num_mirrored` frames.

    Raises:
        RuntimeError: the features differ, so the rates cannot be compared.
    """
    frames = ours.shape[2] - num_mirrored
    largest = float(np.abs(ours[:, :, :frames] - theirs[:, :, :frames]).max())
    if ours.shape != theirs.shape or not largest < TOLERANCE:
        raise RuntimeError(f"features differ by {largest:g}: {ours.shape} and {theirs.shape}")
    return largest
