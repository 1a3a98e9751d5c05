"""Summaries of generated clips, and the frames that stand for their scenes."""

import io

import numpy as np
import pytest
from PIL import Image

from polymodal.core.errors import DataError
from polymodal.data.media.keyframes import keyframes
from polymodal.datasets.video_summaries import FRAME_MILLISECONDS, SCENE, make_video_summaries


def test_clips_are_repeatable_and_as_long_as_their_scenes() -> None:
    columns = make_video_summaries(12, seed=1)
    assert columns == make_video_summaries(12, seed=1)
    for clip, summary, cuts in zip(columns["clip"], columns["summary"], columns["cuts"], strict=True):
        assert summary.count(", then ") == len(cuts)
        with Image.open(io.BytesIO(clip)) as animation:
            seconds = 0.0
            for frame in range(animation.n_frames):
                animation.seek(frame)
                seconds += animation.info["duration"] / 1000
        low, high = (frames * FRAME_MILLISECONDS / 1000 * (len(cuts) + 1) for frames in SCENE)
        assert low - 1e-6 <= seconds <= high + 1e-6


def test_keyframes_show_every_scene_once() -> None:
    """In as many frames as there are scenes, each scene stands once: the rule finds the planted cuts."""
    columns = make_video_summaries(40, seed=0)
    found = 0
    for clip, cuts in zip(columns["clip"], columns["cuts"], strict=True):
        frames = keyframes(clip, len(cuts) + 1, pixels=32)
        scenes = np.searchsorted(cuts, [frame.seconds for frame in frames], side="right")
        found += scenes.tolist() == list(range(len(cuts) + 1))
    assert found >= 38


def test_a_keyframe_is_the_picture_at_its_time() -> None:
    (clip,) = make_video_summaries(1, seed=5)["clip"]
    frame = keyframes(clip, 1, pixels=32)[0]
    with Image.open(io.BytesIO(clip)) as animation:
        shown, at = 0.0, 0
        for at in range(animation.n_frames):
            animation.seek(at)
            shown += animation.info["duration"] / 1000
            if shown > frame.seconds + 1e-6:
                break
        assert np.array_equal(np.asarray(animation.convert("RGB")), np.asarray(frame.image))


def test_what_is_no_clip_is_refused() -> None:
    with pytest.raises(DataError, match="the video cannot be read"):
        keyframes(b"not a clip", 2)
    with pytest.raises(DataError, match="the video cannot be read"):
        keyframes("missing.mp4", 2)
