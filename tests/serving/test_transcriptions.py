"""Transcripts over HTTP are those of the library, in every format of the official client."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest

import polymodal
from polymodal.model.model import Model
from service import running

soundfile = pytest.importorskip("soundfile")
RATE = 8_000


def tone(seconds: float) -> np.ndarray:
    return 0.3 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * RATE)) / RATE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that hears a second and a half."""
    place = tmp_path_factory.mktemp("heard") / "heard"
    rows = [{"sound": {"array": tone(0.5 + row / 20), "sampling_rate": RATE}, "text": "a note"} for row in range(12)]
    recipe = {
        "inputs": {"sound": {"modality": {"name": "audio", "seconds": 1.5, "sampling_rate": RATE}}},
        "outputs": {"text": "text_generation"},
        "hidden_size": 16,
        "training": {"epochs": 1, "precision": "fp32", "num_threads": 1},
        "evaluation": {"bootstrap_samples": 0, "unimodal_scores": "none"},
    }
    polymodal.fit(rows, "text", recipe=recipe, out=place)
    return place


@pytest.fixture(scope="module")
def api(folder: Path) -> Iterator[openai.OpenAI]:
    options: dict[str, Any] = {"api_key": "none", "timeout": 120, "max_retries": 0}
    with running({"heard": folder}) as address, openai.OpenAI(base_url=f"{address}/v1", **options) as found:
        yield found


@pytest.fixture(scope="module")
def recording() -> bytes:
    """Two notes with a pause between them, longer than the model hears at once."""
    file = io.BytesIO()
    soundfile.write(file, np.concatenate([tone(1.0), np.zeros(RATE), tone(1.0)]), RATE, format="WAV")
    return file.getvalue()


def test_every_format(api: openai.OpenAI, folder: Path, recording: bytes) -> None:
    (segments,) = Model.load(folder).transcribe([{"sound": recording}])
    assert len(segments) == 2
    text = " ".join(one.text for one in segments)

    def ask(form: Any) -> Any:
        return api.audio.transcriptions.create(model="heard", file=("a.wav", recording), response_format=form)

    assert ask("json").text == text
    assert ask("json").usage.seconds == pytest.approx(3.0)
    assert ask("text").strip() == text
    whole = ask("verbose_json")
    assert whole.duration == pytest.approx(3.0)
    assert [(one.start, one.end, one.text) for one in whole.segments] == [
        (pytest.approx(one.start), pytest.approx(one.end), one.text) for one in segments
    ]
    assert ask("srt").startswith("1\n00:00:00,0")
    assert ask("srt").count(" --> ") == 2
    assert ask("vtt").startswith("WEBVTT\n\n00:00:00.0")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"language": "en"}, "language: there is no such key"),
        ({"temperature": -1}, "temperature"),
        ({"timestamp_granularities": ["word"], "response_format": "verbose_json"}, "Input should be 'segment'"),
        ({"file": ("a.wav", b"no sound")}, "column 'sound'"),
        ({"file": ("../../etc/passwd", b"")}, "column 'sound'"),
    ],
)
def test_wrong_requests_are_told_why(api: openai.OpenAI, recording: bytes, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(openai.BadRequestError) as told:
        api.audio.transcriptions.create(**{"model": "heard", "file": ("a.wav", recording), **changes})
    assert says in str(told.value)
