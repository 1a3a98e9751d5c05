"""Audio decoding: content is preserved in all formats, and bad files are refused with a reason."""

from __future__ import annotations

import io
import struct
from typing import Any

import av
import numpy as np
import pytest
import soundfile
from PIL import Image

from polymodal.data.media import audio_effects
from polymodal.data.media.audio import AudioRequest, audio_from_array, decode, layout, read_header
from polymodal.data.media.source import MediaError
from polymodal.recipe.data import LimitOptions

LIMITS = LimitOptions()
RATE = 16_000
DRAW = np.random.default_rng(0)


def tone(frequency: float, seconds: float = 1.0, rate: int = RATE, level: float = 0.5) -> np.ndarray:
    return level * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)


def written(samples: np.ndarray, rate: int = RATE, format: str = "WAV", subtype: str | None = None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=format, subtype=subtype)
    return file.getvalue()


def clip(format: str, video: str, audio: str | None, late: float = 0.0) -> bytes:
    """One second of pictures, and half a second of a 440 Hz tone that begins `late` seconds after them."""
    file = io.BytesIO()
    with av.open(file, "w", format=format) as container:
        pictures = container.add_stream(video, rate=10)
        pictures.width = pictures.height = 64
        pictures.pix_fmt = "yuv420p"
        track: Any = container.add_stream(audio, rate=48_000, layout="stereo") if audio else None
        for number in range(10):
            picture = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 20 * number, np.uint8), format="rgb24")
            picture.pts = number
            container.mux(pictures.encode(picture))
        container.mux(pictures.encode())
        if track:
            samples = np.stack([tone(440, 0.5, 48_000)] * 2).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="stereo")
            frame.sample_rate, frame.pts = 48_000, round(late * 48_000)
            container.mux(track.encode(frame))
            container.mux(track.encode())
    return file.getvalue()


def values(data: bytes, limits: LimitOptions = LIMITS, **request: Any) -> np.ndarray:
    return decode(data, AudioRequest(**request), limits)["values"]


def rms(samples: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))


def pitch(samples: np.ndarray, rate: int) -> float:
    strength = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(strength.argmax() * rate / len(samples))


@pytest.mark.parametrize("format", ["WAV", "FLAC", "RF64"])
@pytest.mark.parametrize("channels", [1, 2])
def test_lossless_files_give_the_exact_samples(format: str, channels: int) -> None:
    samples = DRAW.integers(-32_768, 32_768, (1_000, channels)).astype(np.int16)
    found = values(written(samples, RATE, format, "PCM_16"), channels=channels)
    np.testing.assert_array_equal(found, samples)
    assert layout(AudioRequest(channels=channels)) == {"values": (str(found.dtype), found.shape[1:])}


@pytest.mark.parametrize(("subtype", "step"), [("PCM_U8", 256), ("PCM_24", 1), ("PCM_32", 1), ("FLOAT", 1)])
def test_every_sample_format_has_the_same_scale(subtype: str, step: int) -> None:
    samples = tone(440)
    found = values(written(samples, subtype=subtype))[:, 0]
    np.testing.assert_allclose(found, samples * 32_768, atol=step)


def test_full_scale_is_clipped_not_wrapped() -> None:
    found = values(written(np.array([1.5, 1.0, -1.0, -1.5], np.float32), subtype="FLOAT"))[:, 0]
    assert found.tolist() == [32_767, 32_767, -32_768, -32_768]


def test_channels_are_averaged_copied_or_kept() -> None:
    left, right = tone(440), tone(300, level=0.25)
    stereo = written(np.stack([left, right], axis=1))
    np.testing.assert_allclose(values(stereo)[:, 0], (left + right) / 2 * 32_768, atol=2)
    np.testing.assert_allclose(values(stereo, channels=2) / 32_768, np.stack([left, right], 1), atol=1e-4)
    twice = values(written(left), channels=2)
    np.testing.assert_array_equal(twice[:, 0], twice[:, 1])


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_resampling_keeps_pitch_level_and_length(rate: int) -> None:
    found = values(written(tone(1_000, 2, rate), rate))[:, 0] / 32_768
    assert len(found) == 2 * RATE
    middle = found[RATE // 2 : -RATE // 2]
    assert pitch(middle, RATE) == pytest.approx(1_000, abs=2)
    assert rms(middle) == pytest.approx(0.5 / np.sqrt(2), rel=0.01)


def test_resampling_removes_what_the_new_rate_cannot_hold() -> None:
    """10 kHz cannot be at 16 kHz; dropping samples would fold it to 6 kHz."""
    found = values(written(tone(10_000, 1, 44_100), 44_100))[:, 0] / 32_768
    assert rms(found[1_000:-1_000]) < 0.5 * 1e-4


@pytest.mark.parametrize(
    ("format", "subtype", "rate"),
    [("OGG", "VORBIS", 44_100), ("OGG", "OPUS", 48_000), ("MP3", None, 44_100), ("WAV", "ULAW", 8_000)],
)
def test_compressed_audio_have_the_right_duration_and_content(format: str, subtype: str | None, rate: int) -> None:
    data = written(tone(440, 1.5, rate), rate, format, subtype)
    found = values(data)[:, 0] / 32_768
    assert len(found) == pytest.approx(1.5 * RATE, abs=2)
    assert pitch(found, RATE) == pytest.approx(440, abs=2)
    assert rms(found[2_000:-2_000]) == pytest.approx(0.5 / np.sqrt(2), rel=0.05)
    stated = read_header(data)
    assert stated is not None
    assert (stated.sampling_rate, stated.channels) == (rate, 1)
    assert stated.seconds == pytest.approx(1.5, abs=0.01)


def test_an_mp3_without_a_table_of_its_length_is_read_to_its_end() -> None:
    """Its length can only be guessed from the bit rate of its start, which here is silence and needs few bits."""
    rate, seconds = 44_100, 12
    samples = np.concatenate([np.zeros(6 * rate), DRAW.normal(0, 0.2, 6 * rate)])
    bare = without_table(samples, rate)
    assert len(values(bare, seconds=60)) == pytest.approx(seconds * RATE, rel=0.02)
    tagged = b"ID3\x04\x00\x00\x00\x00\x01\x00" + bytes(128) + written(samples, rate, "MP3")
    assert len(values(tagged, seconds=60)) == pytest.approx(seconds * RATE, rel=0.001)


CLIPS = [
    ("mp4", "mpeg4", "aac"),
    ("mov", "mpeg4", "aac"),
    ("matroska", "mpeg4", "flac"),
    ("webm", "libvpx", "libopus"),
    ("avi", "mpeg4", "pcm_s16le"),
    ("mpegts", "mpeg2video", "mp2"),
]


@pytest.mark.parametrize(("format", "video", "audio"), CLIPS)
def test_the_audio_track_of_a_video(format: str, video: str, audio: str) -> None:
    found = values(clip(format, video, audio))[:, 0] / 32_768
    assert len(found) == pytest.approx(0.5 * RATE, abs=0.05 * RATE)
    assert pitch(found, RATE) == pytest.approx(440, abs=5)


@pytest.mark.parametrize(("format", "video", "audio"), [one for one in CLIPS if one[0] != "avi"])
def test_a_audio_track_that_starts_late_keeps_its_place_in_time(format: str, video: str, audio: str) -> None:
    found = values(clip(format, video, audio, late=0.25))[:, 0] / 32_768
    loud = np.flatnonzero(np.abs(found) > 0.2)
    assert loud[0] / RATE == pytest.approx(0.25, abs=0.03)


def test_a_video_without_audio_gives_nothing() -> None:
    silent = clip("mp4", "mpeg4", None)
    assert decode(silent, AudioRequest(), LIMITS) == {}
    assert read_header(silent) is None


def animation(form: str, count: int = 3) -> bytes:
    sink = io.BytesIO()
    first, *others = [Image.new("L", (20, 20), 40 * number) for number in range(count)]
    first.save(sink, form, save_all=count > 1, append_images=others)
    return sink.getvalue()


@pytest.mark.parametrize("data", [animation("GIF"), animation("GIF", 1), animation("WEBP"), animation("PNG")])
def test_an_animation_is_a_video_without_audio(data: bytes) -> None:
    assert decode(data, AudioRequest(), LIMITS) == {}
    assert read_header(data) is None


@pytest.mark.parametrize("form", ["WEBP", "PNG", "JPEG"])
def test_a_still_image_is_no_audio(form: str) -> None:
    with pytest.raises(MediaError, match=r"has no audio|not an audio file"):
        decode(animation(form, 1) if form != "JPEG" else b"\xff\xd8\xff" + bytes(50), AudioRequest(), LIMITS)


def wav(samples: np.ndarray, *, claimed: int | None = None, rate: int = RATE, channels: int = 1) -> bytes:
    """A WAV file by hand, whose header may claim another number of bytes."""
    body = samples.astype("<i2").tobytes()
    size = len(body) if claimed is None else claimed
    form = struct.pack("<HHIIHH", 1, channels, rate, 2 * rate * channels, 2 * channels, 16)
    chunks = b"fmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", size) + body
    return b"RIFF" + struct.pack("<I", (36 + size) & 0xFFFFFFFF) + b"WAVE" + chunks


def test_a_header_that_claims_hours_costs_nothing() -> None:
    samples = DRAW.integers(-1_000, 1_000, 500)
    data = wav(samples, claimed=2_000_000_000)
    np.testing.assert_array_equal(values(data, seconds=600)[:, 0], samples)


def without_table(samples: np.ndarray, rate: int) -> bytes:
    """A variable-rate MP3 without the table at its start that tells its length."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="MP3", bitrate_mode="VARIABLE", compression_level=0.5)
    data = file.getvalue()
    return data[data.index(data[:2], data.index(b"Xing")) :]


def test_limits_hold_for_what_is_decoded_where_the_header_tells_nothing() -> None:
    long = tone(440, 3, 44_100)
    with pytest.raises(MediaError, match="over the limit of 2"):
        values(written(long, 44_100), LimitOptions(seconds=2))
    with pytest.raises(MediaError, match="longer than the limit of 2 seconds"):
        values(without_table(long, 44_100), LimitOptions(seconds=2))


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"sampling_rate": 8_000}, "16000 Hz is over"),
        ({"channels": 1}, "2 channels are over"),
        ({"seconds": 0.5}, "1.0 seconds"),
    ],
)
def test_headers_over_a_limit_are_refused(limits: dict[str, Any], reason: str) -> None:
    with pytest.raises(MediaError, match=reason):
        values(written(np.stack([tone(440)] * 2, axis=1)), LimitOptions(**limits))


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_values_that_are_no_audio_are_refused(bad: float) -> None:
    samples = tone(440).astype(np.float32)
    samples[500] = bad
    with pytest.raises(MediaError, match="values"):
        values(written(samples, subtype="FLOAT"))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"these bytes are no sound",
        b"RIFF\x00\x00\x00\x00WAVE",
        written(tone(440))[:40],
        written(np.zeros(0)),
        written(tone(440), 44_100, "FLAC")[:4_000],
        written(tone(440), 44_100, "OGG")[:3_000],
        written(tone(440, 5), 44_100, "MP3")[:8_000],
        clip("mp4", "mpeg4", "aac")[:3_000],
        wav(tone(440) * 9_999, rate=0),
        wav(tone(440) * 9_999, channels=0),
    ],
)
def test_bad_files_are_refused_with_a_reason(data: bytes) -> None:
    with pytest.raises(MediaError) as error:
        values(data)
    assert str(error.value)


def test_what_is_kept_of_a_long_audio() -> None:
    samples = np.arange(3_000, dtype=np.int16)
    data = written(samples, 1_000)
    np.testing.assert_array_equal(values(data, sampling_rate=1_000, seconds=1)[:, 0], samples[:1_000])
    np.testing.assert_array_equal(
        values(data, sampling_rate=1_000, seconds=1, crop="center")[:, 0], samples[1_000:2_000]
    )
    np.testing.assert_array_equal(values(data, sampling_rate=1_000, seconds=5, crop="center")[:, 0], samples)


def test_stopping_early_changes_nothing() -> None:
    data = written(DRAW.normal(0, 0.1, 44_100 * 8), 44_100)
    np.testing.assert_array_equal(values(data, seconds=2), values(data, seconds=8)[: 2 * RATE])


def test_trimming_cuts_quiet_ends_and_nothing_else() -> None:
    quiet = DRAW.normal(0, 1e-3, RATE)
    samples = np.concatenate([quiet, tone(440), quiet[:4_000], tone(440), quiet])
    found = values(written(samples), trim_silence_db=30.0)
    assert len(found) == pytest.approx(2 * RATE + 4_000, abs=0.05 * RATE)
    silence = written(np.zeros(RATE))
    assert len(values(silence, trim_silence_db=30.0)) == RATE


@pytest.mark.parametrize("level", [0.01, 0.9])
def test_normalized_levels(level: float) -> None:
    data = written(tone(440, level=level), subtype="FLOAT")
    peak, loudness = (values(data, normalization=by) / 32_768 for by in ("peak", "rms"))
    assert np.abs(peak).max() == pytest.approx(audio_effects.PEAK_LEVEL, abs=1e-3)
    assert rms(loudness) == pytest.approx(audio_effects.RMS_LEVEL, abs=1e-3)
    assert not values(written(np.zeros(100)), normalization="rms").any()


def test_denoising_raises_the_signal_over_the_noise() -> None:
    signal = np.concatenate([np.zeros(RATE), tone(440, level=0.2) + tone(1_800, level=0.2), np.zeros(RATE)])
    noisy = signal + DRAW.normal(0, 0.05, len(signal))
    found = values(written(noisy, subtype="FLOAT"), denoise=True)[:, 0] / 32_768
    assert len(found) == len(signal)

    def ratio(samples: np.ndarray) -> float:
        return 20 * float(np.log10(rms(signal) / rms(samples - signal)))

    assert ratio(found) > ratio(noisy) + 8


def test_denoising_loses_nothing_where_there_is_no_noise() -> None:
    signal = np.concatenate([np.zeros(RATE), tone(440), np.zeros(RATE)])
    found = values(written(signal, subtype="FLOAT"), denoise=True)[:, 0] / 32_768
    np.testing.assert_allclose(found, signal, atol=2e-3)


def voice(seconds: float) -> np.ndarray:
    """Harmonics of a gliding pitch, in syllables: what a vowel looks like to a detector."""
    time = np.arange(round(seconds * RATE)) / RATE
    phase = 2 * np.pi * np.cumsum(120 + 20 * np.sin(2 * np.pi * 0.7 * time)) / RATE
    return np.sin(2 * np.pi * 2 * time) ** 2 * sum(np.sin(k * phase) / k for k in range(1, 20)) * 0.2


def test_the_voice_is_kept_and_noise_is_cut() -> None:
    noise = DRAW.normal(0, 0.01, 6 * RATE)
    samples = noise.copy()
    samples[2 * RATE : 4 * RATE] += voice(2)
    found = values(written(samples), voice_activity_only=True)[:, 0] / 32_768
    assert 1.8 * RATE < len(found) < 2.5 * RATE
    assert (found**2).sum() > 0.98 * (samples[2 * RATE : 4 * RATE] ** 2).sum()
    without = written(noise)
    np.testing.assert_array_equal(values(without, voice_activity_only=True), values(without))


@pytest.mark.parametrize("seconds", [1 / RATE, 0.001, 0.03])
def test_very_short_audio_pass_every_step(seconds: float) -> None:
    data = written(tone(440, seconds) + 0.1)
    found = values(data, trim_silence_db=20.0, normalization="rms", denoise=True, voice_activity_only=True)
    assert len(found) == max(1, round(seconds * RATE))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, np.int32, list])
def test_arrays_are_what_their_files_are(dtype: Any) -> None:
    samples = np.rint(tone(440, rate=44_100) * 32_767).astype(np.int16)
    wanted = values(written(samples, 44_100))
    scale = {np.int16: 1, np.int32: 65_536, list: 1}.get(dtype, 1 / 32_768)
    array = samples.tolist() if dtype is list else (samples * np.float64(scale)).astype(dtype)
    before = np.array(array)
    np.testing.assert_array_equal(audio_from_array(array, 44_100, AudioRequest(), LIMITS)["values"], wanted)
    np.testing.assert_array_equal(array, before)


@pytest.mark.parametrize(
    ("array", "rate"),
    [
        (np.zeros((2, 16_000)), RATE),
        (np.zeros((4, 4, 4)), RATE),
        (np.zeros(0), RATE),
        (np.array([0.0, np.nan]), RATE),
        (np.array([100.0, -20_000.0]), RATE),
        (np.array([True, False]), RATE),
        (np.array(["a"]), RATE),
        ([[1.0], [1.0, 2.0]], RATE),
        (np.zeros(10), 0),
        (np.zeros(10), None),
        (np.zeros(10), float("nan")),
        (np.zeros(10), 10**9),
    ],
)
def test_arrays_that_are_no_audio_are_refused(array: Any, rate: Any) -> None:
    with pytest.raises(MediaError):
        audio_from_array(array, rate, AudioRequest(), LIMITS)
