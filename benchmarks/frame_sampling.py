"""Frames of a video: selection before decoding, against decoding everything first."""

from __future__ import annotations

import io
import time
from bisect import bisect_right

import av
import numpy as np

from benchmarks.measure import interleaved
from benchmarks.record import Record
from polymodal.data.media.image import resize_to_square
from polymodal.data.media.video import VideoRequest, decode
from polymodal.recipe.data import LimitOptions

LIMITS = LimitOptions()
WIDTH, HEIGHT, KEY_EVERY, RATE = 320, 240, 50, 25
UNIFORM = VideoRequest(num_frames=8, image_size=112, resize_mode="crop", sampling="uniform")
KEYFRAMES = VideoRequest(num_frames=8, image_size=112, resize_mode="crop", sampling="keyframe")


def run(smallest: bool) -> Record:
    """Videos per second, from bytes to eight small frames."""
    videos, length = (1, 100) if smallest else (4, 300)
    record = Record(
        name="frame_sampling",
        title="Eight frames of a video",
        method=(
            f"Synthetic videos of {WIDTH} x {HEIGHT} pixels and {length} frames, H.264 with reordered frames in MP4, a "
            f"keyframe every {KEY_EVERY}; from bytes to 8 RGB frames of 112 x 112. The reference decodes every frame "
            "with PyAV, then selects by the same rule and converts only the selected frames. Both return the same "
            "bytes, which is checked first. Keyframe sampling selects other frames. One thread."
        ),
        unit="videos/s",
        larger_is_better=True,
    )
    files = [make_video(seed, length) for seed in range(videos)]
    for data in files:
        if not np.array_equal(decode(data, UNIFORM, LIMITS)["pixels"], decode_all(data)):
            raise RuntimeError("the two methods return different frames")
    contestants = {
        "Polymodal (uniform)": lambda: speed(files, lambda data: decode(data, UNIFORM, LIMITS)),
        "Polymodal (keyframe)": lambda: speed(files, lambda data: decode(data, KEYFRAMES, LIMITS)),
        "decoding everything": lambda: speed(files, decode_all),
    }
    interleaved(record, contestants, 1 if smallest else 7)
    record.compare("Polymodal (uniform)", "decoding everything")
    record.compare("Polymodal (keyframe)", "decoding everything")
    record.facts = {"frames that uniform sampling decodes": decoded_fraction(files[0], length)}
    return record


def make_video(seed: int, length: int) -> bytes:
    """A video of drifting colored waves with noise."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    speeds = draw.uniform(1, 6, (3, 2))
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        options = {"preset": "veryfast", "x264-params": f"keyint={KEY_EVERY}:min-keyint={KEY_EVERY}:scenecut=0"}
        stream = container.add_stream("libx264", rate=RATE, options=options)
        stream.width, stream.height, stream.pix_fmt, stream.codec_context.max_b_frames = WIDTH, HEIGHT, "yuv420p", 2
        for number in range(length):
            waves = [np.sin((x + across * number) / 23) + np.cos((y + down * number) / 17) for across, down in speeds]
            pixels = 127 + 50 * np.stack(waves, -1) + draw.normal(0, 4, (HEIGHT, WIDTH, 1))
            frame = av.VideoFrame.from_ndarray(np.clip(pixels, 0, 255).astype(np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


def decode_all(data: bytes) -> np.ndarray:
    """The same frames by decoding the whole video."""
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        frames = list(container.decode(stream))
    starts = [frame.pts for frame in frames]
    whole = starts[-1] + frames[-1].duration - starts[0]
    parts = 2 * UNIFORM.num_frames
    middles = [starts[0] + (2 * part + 1) * whole // parts for part in range(UNIFORM.num_frames)]
    chosen = [frames[bisect_right(starts, middle) - 1] for middle in middles]
    return np.stack([resize_to_square(frame.to_image(), UNIFORM.image_size, UNIFORM.resize_mode) for frame in chosen])


def decoded_fraction(data: bytes, length: int) -> str:
    """Number of frames that the decoder returns for the selected frames."""
    from polymodal.data.media.frame_sampling import uniform_frames
    from polymodal.data.media.video_reader import VideoReader

    class Counting(VideoReader):
        count = 0

        def decode_from(self, start=0, wanted=None):  # type: ignore[no-untyped-def]
            for frame in super().decode_from(start, wanted):
                self.count += 1
                yield frame

    reader = Counting(data, LIMITS)
    assert reader.timeline is not None
    for _ in reader.decode_at(
        [reader.timeline.starts[number] for number in uniform_frames(reader.timeline, UNIFORM.num_frames)]
    ):
        pass
    return f"{reader.count} of {length}"


def speed(files: list[bytes], work) -> float:  # type: ignore[no-untyped-def]
    start = time.perf_counter()
    for data in files:
        work(data)
    return len(files) / (time.perf_counter() - start)
