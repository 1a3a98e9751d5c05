"""Long audio is split at silence, nothing loud is lost, and texts have their times."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from laws.samples import trained
from laws.seq2seq_checkpoints import WINDOW, seq2seq_checkpoint
from polymodal.core.errors import DataError, RecipeError
from polymodal.data.table.cell_errors import CellErrors
from polymodal.generation.silence import MARGIN, frame_levels, split_on_silence
from polymodal.model.model import Model
from polymodal.model.transcription import transcribe

RATE = 8_000


def tone(seconds: float, level: float = 0.3) -> np.ndarray:
    at = np.arange(round(seconds * RATE)) / RATE
    return (level * 32_767 * np.sin(2 * np.pi * 440 * at)).astype(np.int16)


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE), np.int16)


def test_parts_are_cut_in_the_longest_pause_of_the_second_half() -> None:
    sound = np.concatenate([tone(1), silence(1), tone(2), silence(0.4), tone(1), silence(0.1), tone(2)])
    first, second = split_on_silence(sound, RATE, 6.0)
    assert first == (0.0, pytest.approx(4 + MARGIN, abs=0.03))
    assert second == (pytest.approx(4.4 - MARGIN, abs=0.03), pytest.approx(7.5, abs=0.03))


def test_quiet_gives_nothing_and_long_silence_is_left_out() -> None:
    assert split_on_silence(silence(30), RATE, 10) == []
    assert split_on_silence(np.zeros(0, np.int16), RATE, 10) == []
    assert split_on_silence(np.random.default_rng(0).integers(-3, 4, RATE * 5).astype(np.int16), RATE, 2) == []
    found = split_on_silence(np.concatenate([silence(60), tone(1), silence(60)]), RATE, 10)
    assert found == [(pytest.approx(60 - MARGIN, abs=0.03), pytest.approx(61 + MARGIN, abs=0.03))]


@pytest.mark.parametrize("seed", range(8))
def test_nothing_loud_is_lost_and_no_part_is_too_long(seed: int) -> None:
    draw = np.random.default_rng(seed)
    parts = [
        tone(draw.uniform(0.1, 5), draw.uniform(0.02, 0.9)) if at % 2 else silence(draw.exponential(0.5))
        for at in range(30)
    ]
    sound = np.concatenate(parts)
    sound = (sound + draw.normal(0, 3, len(sound))).astype(np.int16)
    found = split_on_silence(sound, RATE, 3.0)
    ends = [0.0, *(end for _, end in found)]
    assert all(start < end and end - start <= 3.0 + 1e-9 for start, end in found)
    assert all(start >= before - 1e-9 for (start, _), before in zip(found, ends, strict=False))
    held = np.zeros(len(sound), bool)
    for start, end in found:
        held[round(start * RATE) : round(end * RATE)] = True
    level = np.repeat(frame_levels(sound, RATE), round(0.02 * RATE))[: len(sound)]
    assert held[level > np.percentile(level, 95) - 35].all()


def test_audio_without_pauses_is_split_at_the_quietest_point() -> None:
    sound = np.concatenate([tone(3.5), tone(0.3, 0.05), tone(3.5)])
    first, second = split_on_silence(sound, RATE, 5.0)
    assert first[1] == second[0]
    assert 3.5 <= first[1] <= 3.8


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    pytest.importorskip("transformers")
    checkpoint = seq2seq_checkpoint("whisper")
    rows = {"sound": [cell(tone(1))] * 4, "hint": ["a"] * 4, "said": ["amber"] * 4}
    made: dict[str, Any] = {
        "inputs": {
            "sound": {
                "modality": "audio",
                "encoder": {"name": "pretrained_audio", "checkpoint": checkpoint, "max_tokens": None},
            },
            "hint": "text",
        },
        "fusion": "concat",
        "outputs": {
            "said": {
                "task": {"name": "text_generation", "max_target_length": 8},
                "decoder": {"name": "encoder_decoder", "checkpoint": checkpoint, "input": "sound"},
            }
        },
        "training": {"epochs": 0},
    }
    return trained({"train": rows, "validation": rows}, tmp_path_factory.mktemp("run"), **made)


def cell(sound: np.ndarray) -> dict[str, Any]:
    return {"array": sound, "sampling_rate": RATE}


def test_each_window_is_transcribed_as_a_row(model: Model) -> None:
    pieces = [tone(1.2, 0.1 * (place + 1)) for place in range(5)]
    long = np.concatenate([part for piece in pieces for part in (piece, silence(0.8))])
    rows = {"sound": [cell(long), cell(silence(9)), None, cell(pieces[0])], "hint": ["a", "b", "c", "d"]}
    faults = CellErrors()
    found = transcribe(model.predictor, model.open(rows), faults)
    assert not faults.errors
    assert [len(one) for one in found] == [5, 0, 0, 1]
    assert [one.start for one in found[0]] == pytest.approx([2.0 * place for place in range(5)], abs=MARGIN + 0.03)
    assert [one.end for one in found[0]] == pytest.approx([2.0 * place + 1.2 for place in range(5)], abs=MARGIN + 0.03)
    assert all(one.text for one in found[0])


def test_windows_that_the_model_cannot_read_are_rejected(model: Model) -> None:
    table = model.open({"sound": [cell(tone(1))], "hint": ["a"]})
    with pytest.raises(RecipeError, match=rf"window.*at most|window.*{WINDOW} s"):
        transcribe(model.predictor, table, CellErrors(), chunk_seconds=WINDOW + 1)
    with pytest.raises(RecipeError, match="window"):
        transcribe(model.predictor, table, CellErrors(), chunk_seconds=0)
    with pytest.raises(RecipeError, match="input"):
        transcribe(model.predictor, table, CellErrors(), input="hint")
    with pytest.raises(DataError, match="root"):
        transcribe(model.predictor, model.open({"sound": ["gone.wav"], "hint": ["a"]}), CellErrors(strict=True))
