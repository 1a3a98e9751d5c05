"""Video decoding: the selected frames equal those of decoding everything, and bad files are refused."""

from __future__ import annotations

import io
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from polymodal.data.media import video
from polymodal.data.media.frame_sampling import FrameTimeline, even_positions, scene_frames, uniform_frames
from polymodal.data.media.image import resize_to_square
from polymodal.data.media.source import MediaError
from polymodal.data.media.video import VideoRequest, count_frames, decode, read_video_metadata
from polymodal.data.media.video_reader import VideoReader
from polymodal.recipe.data import LimitOptions

av = pytest.importorskip("av")
LIMITS = LimitOptions()
HEIGHT, WIDTH, FRAMES = 48, 64, 40


def drawing(number):
    """A picture that no other number has."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([x * 3 + number * 5, y * 4 + number * 2, x + y + number * 3], -1).astype(np.uint8)


def film(codec="mpeg4", form="avi", ticks=range(FRAMES), rate=10, options=None, b_frames=None, key_every=9, turn=0):
    """A clip whose frame i is `drawing(i)`, shown from `ticks[i] / rate` seconds on."""
    try:
        av.codec.Codec(codec, "w")
    except ValueError:
        pytest.skip(f"this build of FFmpeg has no {codec}")
    file = io.BytesIO()
    with av.open(file, "w", format=form) as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height, stream.gop_size = WIDTH, HEIGHT, key_every
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.thread_count = 1
        if b_frames is not None:
            stream.codec_context.max_b_frames = b_frames
        if turn:
            stream.set_display_rotation(turn)
        for number, tick in enumerate(ticks):
            frame = av.VideoFrame.from_ndarray(drawing(number), format="rgb24")
            frame.pts = tick
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


def request(frames=5, sampling="uniform", fit="stretch", side=32):
    return VideoRequest(frames, side, fit, sampling)


def by_decoding_everything(data, wanted):
    """The chosen frames, found without any of the code that is tested but the search for scenes."""
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        frames = [(frame.pts, frame.duration, frame.key_frame, frame.to_image()) for frame in container.decode(stream)]
        tick, rate = float(stream.time_base), stream.average_rate
    starts = [start for start, *_ in frames]
    if None in starts or sorted(set(starts)) != starts:
        starts, end, tick = list(range(len(frames))), len(frames), 1 / float(rate)
    else:
        end = starts[-1] + frames[-1][1]
    keys = [number for number, (_, _, key, _) in enumerate(frames) if key]

    def middles(count):
        if count >= len(frames):
            return list(range(len(frames)))
        shown = [starts[0] + Fraction(2 * part + 1, 2 * count) * (end - starts[0]) for part in range(count)]
        return [max(number for number, start in enumerate(starts) if start <= moment) for moment in shown]

    def spread(places, count):
        count = min(count, len(places))
        return [places[int(Fraction(2 * part + 1, 2 * count) * len(places))] for part in range(count)]

    def pixels(number):
        return resize_to_square(frames[number][3], wanted.image_size, wanted.resize_mode)

    if wanted.sampling == "keyframe":
        chosen = spread(keys or [0], wanted.num_frames)
    elif wanted.sampling == "uniform" or len(frames) <= wanted.num_frames:
        chosen = middles(wanted.num_frames)
    else:
        many = 4 * wanted.num_frames
        seen = spread(keys, many) if len(keys) >= many else sorted(set(middles(many)))
        box = Image.Resampling.BOX
        grey = [np.array(Image.fromarray(pixels(number)).convert("L").resize((32, 32), box)) for number in seen]
        timeline = FrameTimeline([starts[number] for number in seen], end, tick)
        chosen = [seen[place] for place in scene_frames(np.stack(grey), timeline, wanted.num_frames)]
    times = np.array([(starts[number] - starts[0]) * tick for number in chosen], np.float32)
    return {"pixels": np.stack([pixels(number) for number in chosen]), "times": times}


H264 = {"preset": "ultrafast", "x264-params": "keyint=9:min-keyint=9:scenecut=0"}
OPEN = {"x264-params": "keyint=9:min-keyint=9:scenecut=0:open-gop=1"}
REFRESH = {"x264-params": "keyint=9:intra-refresh=1"}
UNEVEN = np.cumsum(1 + np.random.default_rng(0).integers(0, 9, FRAMES) ** 2 // 8).tolist()
FILMS = {
    "mpeg4 in avi": {},
    "mpeg4 with b-frames in avi": {"b_frames": 2},
    "mpeg4 with b-frames in mp4": {"form": "mp4", "b_frames": 2},
    "h264 in mp4": {"codec": "libx264", "form": "mp4", "b_frames": 0, "options": H264},
    "h264 with b-frames in mp4": {"codec": "libx264", "form": "mp4", "b_frames": 3, "options": H264},
    "h264 in open groups in mp4": {"codec": "libx264", "form": "mp4", "b_frames": 3, "options": OPEN},
    "h264 in open groups in ts": {"codec": "libx264", "form": "mpegts", "b_frames": 3, "options": OPEN},
    "h264 without keyframes in ts": {"codec": "libx264", "form": "mpegts", "b_frames": 0, "options": REFRESH},
    "h264 with b-frames in avi": {"codec": "libx264", "form": "avi", "b_frames": 3, "options": H264},
    "h264 in fragments": {"codec": "libx264", "form": "mp4", "options": {**H264, "movflags": "frag_keyframe"}},
    "vp9 in webm": {"codec": "libvpx-vp9", "form": "webm", "options": {"deadline": "realtime", "cpu-used": "8"}},
    "vp8 in webm": {"codec": "libvpx", "form": "webm", "options": {"deadline": "realtime", "cpu-used": "8"}},
    "mjpeg in avi": {"codec": "mjpeg"},
    "ffv1 in matroska": {"codec": "ffv1", "form": "matroska"},
    "mpeg2 in mpeg": {"codec": "mpeg2video", "form": "mpeg", "rate": 25, "b_frames": 2},
    "mpeg2 in ts": {"codec": "mpeg2video", "form": "mpegts", "rate": 25, "b_frames": 2},
    "mpeg2 without a container": {"codec": "mpeg2video", "form": "mpeg2video", "rate": 25},
    "one keyframe": {"form": "mp4", "key_every": 1000},
    "keyframes only": {"form": "mp4", "key_every": 1},
    "late start in mp4": {"form": "mp4", "ticks": range(7, 7 + FRAMES)},
    "late start in webm": {"codec": "libvpx", "form": "webm", "ticks": range(7, 7 + FRAMES)},
    "start before zero in mp4": {"codec": "libx264", "form": "mp4", "options": H264, "ticks": range(-5, FRAMES - 5)},
    "start before zero in ts": {"form": "mpegts", "ticks": range(-5, FRAMES - 5)},
    "uneven times in mp4": {"codec": "libx264", "form": "mp4", "options": H264, "b_frames": 3, "ticks": UNEVEN},
    "uneven times in matroska": {"form": "matroska", "b_frames": 2, "ticks": UNEVEN},
}


@pytest.mark.parametrize("name", FILMS)
def test_chosen_frames_are_those_that_decoding_everything_gives(name):
    data = film(**FILMS[name])
    for wanted in (request(), request(sampling="keyframe"), request(sampling="scene"), request(100), request(1)):
        expected, found = by_decoding_everything(data, wanted), decode(data, wanted, LIMITS)
        assert np.array_equal(found["pixels"], expected["pixels"]), wanted
        assert np.array_equal(found["times"], expected["times"]), wanted
        assert found["pixels"].dtype == np.uint8
        assert found["times"].dtype == np.float32
    assert count_frames(data, LIMITS) == len(by_decoding_everything(data, request(1000))["times"])


class Counting(VideoReader):
    """Counts the frames that are decoded in order."""

    count = 0

    def decode_from(self, start=0, wanted=None):
        for frame in super().decode_from(start, wanted):
            self.count += 1
            yield frame


def test_only_what_the_chosen_frames_need_is_decoded():
    data = film("mpeg4", "mp4", ticks=range(200), key_every=10)
    clip = Counting(data, LIMITS)
    frames = list(clip.decode_at([clip.timeline.starts[number] for number in (3, 100, 105, 151)]))
    assert [frame.pts for frame in frames] == [clip.timeline.starts[number] for number in (3, 100, 105, 151)]
    assert clip.count <= 4 + 6 + 2
    alone = Counting(film("mpeg4", "mp4", key_every=1000), LIMITS)
    list(alone.decode_at([alone.timeline.starts[number] for number in (3, 20)]))
    assert alone.count == 21


def test_keyframe_sampling_decodes_nothing_else():
    clip = Counting(film(), LIMITS)
    keys = clip.keyframe_ticks()
    assert len(keys) == 5
    assert [frame.pts for frame in clip.decode_keyframes(keys)] == keys
    assert clip.count == 0


def test_rotation_is_undone():
    if not hasattr(av.video.stream.VideoStream, "set_display_rotation"):
        pytest.skip("this PyAV cannot write rotations")
    plain = decode(film("mpeg4", "mp4"), request(), LIMITS)["pixels"]
    for turn, quarters in ((90, 1), (-90, 3), (180, 2)):
        turned = decode(film("mpeg4", "mp4", turn=turn), request(), LIMITS)["pixels"]
        difference = np.abs(np.rot90(plain, quarters, axes=(1, 2)).astype(int) - turned)
        assert difference.mean() < 2  # resized along the other side first


def test_uniform_takes_the_frame_that_is_shown_at_the_middle_of_each_part():
    assert uniform_frames(FrameTimeline(range(100), 100, 0.1), 4) == [12, 37, 62, 87]
    assert uniform_frames(FrameTimeline([0, 90, 95], 100, 0.1), 2) == [0, 0]
    assert uniform_frames(FrameTimeline([-10, 0, 10], 20, 0.1), 8) == [0, 1, 2]
    assert even_positions(3, 8) == [0, 1, 2]


def test_scenes_are_detected_by_cuts_and_chosen_by_length():
    """Four scenes: of 6, 2, 8 and 4 candidates."""
    shade = np.repeat([10, 200, 90, 250], [6, 2, 8, 4])
    grey = np.broadcast_to(shade[:, None, None], (20, 4, 4)).astype(np.uint8)
    grey = grey + np.random.default_rng(0).integers(0, 3, grey.shape, dtype=np.uint8)
    timeline = FrameTimeline(range(20), 20, 1.0)
    assert scene_frames(grey, timeline, 2) == [3, 12]
    assert scene_frames(grey, timeline, 3) == [3, 12, 18]
    assert scene_frames(grey, timeline, 5) == [3, 7, 10, 14, 18]
    slow = FrameTimeline([*range(6), 6, 60, *range(100, 112)], 112, 1.0)  # the second scene now lasts longest
    assert scene_frames(grey, slow, 1) == [7]
    assert scene_frames(np.zeros((20, 4, 4), np.uint8), timeline, 4) == [2, 7, 12, 17]


def animation(form, frames, durations, **options):
    file = io.BytesIO()
    pictures = [Image.fromarray(frame) for frame in frames]
    pictures[0].save(file, form, save_all=True, append_images=pictures[1:], duration=durations, **options)
    return file.getvalue()


@pytest.mark.parametrize(("form", "options"), [("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {})])
def test_animations_are_composed_and_timed(form, options):
    """Each frame differs from the one before in a small square only, so files hold just that."""
    frames = np.zeros((6, 32, 32, 3), np.uint8)
    for number in range(6):
        frames[number:, 4 * number : 4 * number + 4, :8] = 255
    data = animation(form, frames, [100, 200, 100, 400, 100, 50], loop=0, **options)
    found = decode(data, request(10), LIMITS)
    assert np.array_equal(found["pixels"], frames)
    assert found["times"].tolist() == pytest.approx([0, 0.1, 0.3, 0.4, 0.8, 0.9])
    two = decode(data, request(2), LIMITS)  # the clip lasts 0.95 s: middles at 0.2375 and 0.7125
    assert np.array_equal(two["pixels"], frames[[1, 3]])
    assert count_frames(data, LIMITS) == read_video_metadata(data, LIMITS).frames == 6


def test_transparency_is_white_and_a_still_image_is_a_video_of_one_frame():
    file = io.BytesIO()
    Image.new("RGBA", (32, 32), (0, 0, 0, 0)).save(file, "WEBP", lossless=True)
    found = decode(file.getvalue(), request(), LIMITS)
    assert found["pixels"].shape == (1, 32, 32, 3)
    assert (found["pixels"] == 255).all()
    assert found["times"].tolist() == [0]


def sound_only():
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.rate, frame.pts = 8000, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


def refused(data, wanted=None, limits=LIMITS):
    with pytest.raises(MediaError) as caught:
        decode(data, wanted or request(), limits)
    assert "/" not in str(caught.value)
    assert "Errno" not in str(caught.value)
    return str(caught.value)


def test_files_that_are_no_videos_are_refused():
    assert "empty" in refused(b"")
    assert "not a video of a supported format" in refused(b"clip, label\n")
    assert "no video stream" in refused(sound_only())
    for head in (b"GIF89a", b"\x1a\x45\xdf\xa3" + bytes(100), b"RIFF\0\0\0\0AVI ", b"RIFF\0\0\0\0WEBPVP8 "):
        refused(head)
    assert refused(film("mpeg4", "avi", ticks=[]))


@pytest.mark.parametrize("form", ["avi", "mp4", "matroska"])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.8])
def test_a_file_that_was_cut_off_is_refused(form, share):
    data = film("mpeg4", form, options={"movflags": "frag_keyframe"} if form == "mp4" else {})
    cut = data[: int(share * len(data))]
    for wanted in (request(), request(sampling="keyframe"), request(1000)):
        refused(cut, wanted)


@pytest.mark.parametrize("form", ["avi", "matroska"])
def test_corruption_never_gives_fewer_frames(form):
    data = film("mjpeg", form)
    draw = np.random.default_rng(0)
    refusals = 0
    for _ in range(40):
        damaged = bytearray(data)
        start = int(draw.integers(len(data) // 4, len(data) - 50))
        damaged[start : start + 50] = draw.bytes(50)
        try:
            assert len(decode(bytes(damaged), request(1000), LIMITS)["times"]) == FRAMES
        except MediaError:
            refusals += 1
    assert refusals


def test_limits_hold_before_decoding_and_against_headers_that_lie():
    data = film("mjpeg", "avi")
    assert "megapixels" in refused(data, limits=LimitOptions(megapixels=0.001))
    size = np.array([WIDTH, HEIGHT], "<u4").tobytes()
    assert data.count(size) == 2
    lying = data.replace(size, np.array([16, 16], "<u4").tobytes())
    assert decode(lying, request(), LIMITS)["pixels"].shape == (5, 32, 32, 3)
    assert refused(lying, limits=LimitOptions(megapixels=0.001))
    assert "frames" in refused(data, limits=LimitOptions(frames=39))
    assert "frames" in refused(film("mpeg2video", "mpeg2video", rate=25), limits=LimitOptions(frames=39))
    assert "seconds" in refused(data, limits=LimitOptions(seconds=3.9))
    assert decode(data, request(), LimitOptions(frames=40, seconds=4.0))
    many = animation("GIF", np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8), 1000)
    assert "frames" in refused(many, limits=LimitOptions(frames=4))
    assert "seconds" in refused(many, limits=LimitOptions(seconds=4.5))
    assert "megapixels" in refused(many, limits=LimitOptions(megapixels=0.00006))


def test_metadata_come_from_the_header():
    facts = read_video_metadata(film("mpeg4", "mp4"), LIMITS)
    assert facts == video.VideoMetadata(pytest.approx(4.0), FRAMES, WIDTH, HEIGHT)
    with pytest.raises(MediaError, match="no video stream"):
        read_video_metadata(sound_only(), LIMITS)
