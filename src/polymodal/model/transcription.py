"""Long sounds: cut into windows at quiet places, each written by itself, the texts joined with their times."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from polymodal.core.errors import DataError, RecipeError, did_you_mean
from polymodal.data.media.audio import AudioRequest
from polymodal.data.table.block import RowBlock
from polymodal.data.table.cell_errors import CellErrors
from polymodal.data.table.table import Table
from polymodal.generation.silence import split_on_silence
from polymodal.inference.predictor import Predictor
from polymodal.modalities.audio import Audio
from polymodal.model.rows import open_rows
from polymodal.model.text_generation import stream_texts, text_output
from polymodal.preparation.preparation import Preparation
from polymodal.pretrained.audio_features import sound_features

#: Rows whose sounds are decoded at once, and windows that are written at once.
ROWS_PER_BLOCK, WINDOWS_PER_BATCH = 4, 32


@dataclass(frozen=True)
class TranscriptSegment:
    """What was said from `start` to `end`, in seconds from the start of the sound; both lie in its loud part."""

    start: float
    end: float
    text: str


class AudioWindow(NamedTuple):
    """A part of a row's sound, in seconds, and the row with that part in place of the whole."""

    row: int
    start: float
    end: float
    cells: dict[str, Any]
    root: Path | None


class _AudioOfLength(Audio):
    """Sounds as a fitted modality has them, but of another most length."""

    def __init__(self, like: Audio, seconds: float) -> None:
        super().__init__(like.options, columns=like.columns)
        self._card, self._seconds = like.card, seconds

    def request(self) -> AudioRequest:
        return replace(super().request(), seconds=self._seconds, crop="start", trim_silence_db=None, voice_activity_only=False)


def transcribe(
    predictor: Predictor,
    table: Table,
    cell_errors: CellErrors,
    *,
    input: str | None = None,
    output: str | None = None,
    window: float | None = None,
    **changes: Any,
) -> list[list[TranscriptSegment]]:
    """Write the text of sounds of any length, with the times of its parts; sound tracks of clips too.

    A sound is cut in the longest pause of the second half of each window, else at its quietest place; what is quiet at
    the ends of a window is left out, and a window that is quiet throughout is not written. Every window is a row of
    its own, with the row's other inputs and prompt, so that windows and rows are written side by side.

    input: the sounds' input; silent where there is only one
    output: the text output; silent where there is only one
    window: the most seconds of a window; silent: 28, or what the model reads if that is less
    changes: options of `GenerationConfig`, as in `Model.generate`
    faults: takes the cells that cannot be used

    Returns the segments of each row in order of time; none where the sound is missing or quiet.

    Raises:
        RecipeError: there is no such input or output, or a window is longer than the model reads.
        DataError: the model hears nothing, or (strict) a cell cannot be used.
    """
    name, sounds = _sound_input(predictor.preparation, input)
    most = _reads(sounds)
    length = min(28.0, most) if window is None else window
    if not 0 < length <= most:
        raise RecipeError("chunk_seconds", f"the model reads {most:g} s at once, so a window has more than 0 and at most that")
    preparation = copy.copy(predictor.preparation)
    preparation.modalities = {**preparation.modalities, name: _AudioOfLength(sounds, most)}
    windowed = replace(predictor, preparation=preparation)
    output = text_output(preparation, output)
    whole = _AudioOfLength(sounds, preparation.recipe.data.limits.seconds)
    found: list[list[TranscriptSegment]] = [[] for _ in range(len(table))]
    waiting: list[AudioWindow] = []
    for block in predictor.preparation.blocks(table, cell_errors, size=ROWS_PER_BLOCK):
        for position, samples in _decoded(block, whole):
            row = {column: block.cells(column)[position] for column in block.columns}
            for start, end in split_on_silence(samples, sounds.options.sampling_rate, length):
                part = samples[round(start * sounds.options.sampling_rate) : round(end * sounds.options.sampling_rate)]
                cell = {"array": part, "sampling_rate": sounds.options.sampling_rate}
                cells = {**row, sounds.columns[0]: cell}
                waiting.append(AudioWindow(int(block.rows[position]), start, end, cells, block.root))
        while len(waiting) >= WINDOWS_PER_BATCH:
            _write(windowed, waiting[:WINDOWS_PER_BATCH], found, cell_errors, output, changes)
            del waiting[:WINDOWS_PER_BATCH]
    _write(windowed, waiting, found, cell_errors, output, changes)
    return found


def _write(
    predictor: Predictor,
    windows: list[AudioWindow],
    found: list[list[TranscriptSegment]],
    cell_errors: CellErrors,
    output: str,
    changes: dict[str, Any],
) -> None:
    """Write windows side by side, and add their segments to those of their rows."""
    if not windows:
        return
    table = open_rows([one.cells for one in windows], windows[0].root, predictor.preparation.input_columns)
    texts = [text for block in stream_texts(predictor, table, cell_errors, output, changes) for text in block]
    for one, written in zip(windows, texts, strict=True):
        if written and written[0].text:
            found[one.row].append(TranscriptSegment(one.start, one.end, written[0].text))


def _decoded(block: RowBlock, sounds: Audio) -> Iterator[tuple[int, np.ndarray]]:
    """The place in the block and the samples `[samples]` int16 of every sound that is there."""
    prepared = sounds.prepare(block)
    for position, item in enumerate(prepared.index.tolist()):
        if item >= 0:
            values = prepared.items.take(np.array([item]))["values"][0]
            yield position, np.ascontiguousarray(values.mean(axis=1).round().astype(np.int16))


def _sound_input(preparation: Preparation, name: str | None) -> tuple[str, Audio]:
    sounds = {key: one for key, one in preparation.modalities.items() if isinstance(one, Audio)}
    if not sounds:
        raise DataError("the model hears nothing: none of its inputs is a sound")
    if name is None and len(sounds) > 1:
        raise RecipeError("input", f"say which sound to cut: {', '.join(sounds)}")
    chosen = name or next(iter(sounds))
    if chosen not in sounds:
        raise RecipeError("input", f"the model has no sounds of that name; {did_you_mean(chosen, sounds)}")
    return chosen, sounds[chosen]


def _reads(sounds: Audio) -> float:
    """The most seconds that the model can read at once: what its checkpoint can, else what it was trained on."""
    longest = None if sounds.card is None else sound_features(sounds.card).longest
    return float(sounds.request().seconds) if longest is None else longest / sounds.options.sampling_rate
