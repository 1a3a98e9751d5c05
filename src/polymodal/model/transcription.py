"""Transcription of long audio: cut into windows at pauses; each window is transcribed separately."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from polymodal.core.errors import DataError, RecipeError, did_you_mean
from polymodal.data.media.audio import AudioRequest
from polymodal.data.objects import Root
from polymodal.data.table.block import RowBlock
from polymodal.data.table.cell_errors import CellErrors
from polymodal.data.table.table import Table
from polymodal.generation.silence import split_on_silence
from polymodal.inference.predictor import Predictor
from polymodal.modalities.audio import Audio
from polymodal.model.rows import open_rows
from polymodal.model.text_generation import stream_texts, text_output
from polymodal.preparation.preparation import Preparation
from polymodal.pretrained.audio_features import audio_feature_extractor

#: Number of rows decoded at once, and of windows transcribed in one batch.
ROWS_PER_BLOCK, WINDOWS_PER_BATCH = 4, 32


@dataclass(frozen=True)
class TranscriptSegment:
    """The text from `start` to `end`, in seconds from the beginning of the audio, without silence at both ends."""

    start: float
    end: float
    text: str


class AudioWindow(NamedTuple):
    """A window of a row's audio, in seconds, and the cells of the row with the window instead of the whole audio."""

    row: int
    start: float
    end: float
    cells: dict[str, Any]
    root: Root | None


class _AudioOfLength(Audio):
    """A copy of a fitted audio modality with another maximum length."""

    def __init__(self, like: Audio, seconds: float) -> None:
        super().__init__(like.options, columns=like.columns)
        self._card, self._seconds = like.card, seconds

    def request(self) -> AudioRequest:
        return replace(
            super().request(), seconds=self._seconds, crop="start", trim_silence_db=None, voice_activity_only=False
        )


def transcribe(
    predictor: Predictor,
    table: Table,
    cell_errors: CellErrors,
    *,
    input: str | None = None,
    output: str | None = None,
    chunk_seconds: float | None = None,
    **changes: Any,
) -> list[list[TranscriptSegment]]:
    """Transcribe audio of any length, including the audio track of videos, with the times of the segments.

    The audio is cut in the longest pause of the second half of each window, or at its quietest position if there is no
    pause. Silence at the ends of a window is removed, and a silent window is skipped. Each window is a row with the
    other inputs and the prompt of its row, so windows of several rows are transcribed in one batch.

    input: the audio input; default: the only one
    output: the text output; default: the only one
    chunk_seconds: maximum seconds of a window; default: 28, or the maximum of the model if that is less
    changes: options of `GenerationConfig`, as in `Model.generate`
    cell_errors: collects unusable cells

    Returns the segments of each row in order of time; an empty list if the audio is missing or silent.

    Raises:
        RecipeError: the input or output does not exist, or a window is longer than the maximum of the model.
        DataError: the model has no audio input, or (strict) a cell is unusable.
    """
    name, audio = _audio_input(predictor.preparation, input)
    max_seconds = _max_seconds(audio)
    length = min(28.0, max_seconds) if chunk_seconds is None else chunk_seconds
    if not 0 < length <= max_seconds:
        raise RecipeError(
            "chunk_seconds",
            f"the window must be more than 0 and at most {max_seconds:g} seconds, the maximum of the model",
        )
    preparation = copy.copy(predictor.preparation)
    preparation.modalities = {**preparation.modalities, name: _AudioOfLength(audio, max_seconds)}
    window_predictor = replace(predictor, preparation=preparation)
    output = text_output(preparation, output)
    full_length = _AudioOfLength(audio, preparation.recipe.data.limits.seconds)
    found: list[list[TranscriptSegment]] = [[] for _ in range(len(table))]
    pending: list[AudioWindow] = []
    for block in predictor.preparation.blocks(table, cell_errors, size=ROWS_PER_BLOCK):
        for position, samples in _decoded_audio(block, full_length):
            row = {column: block.cells(column)[position] for column in block.columns}
            for start, end in split_on_silence(samples, audio.options.sampling_rate, length):
                part = samples[round(start * audio.options.sampling_rate) : round(end * audio.options.sampling_rate)]
                cell = {"array": part, "sampling_rate": audio.options.sampling_rate}
                cells = {**row, audio.columns[0]: cell}
                pending.append(AudioWindow(int(block.rows[position]), start, end, cells, block.root))
        while len(pending) >= WINDOWS_PER_BATCH:
            _transcribe_windows(window_predictor, pending[:WINDOWS_PER_BATCH], found, cell_errors, output, changes)
            del pending[:WINDOWS_PER_BATCH]
    _transcribe_windows(window_predictor, pending, found, cell_errors, output, changes)
    return found


def _transcribe_windows(
    predictor: Predictor,
    windows: list[AudioWindow],
    found: list[list[TranscriptSegment]],
    cell_errors: CellErrors,
    output: str,
    changes: dict[str, Any],
) -> None:
    """Transcribe windows in one batch, and add their segments to those of their rows."""
    if not windows:
        return
    table = open_rows([window.cells for window in windows], windows[0].root, predictor.preparation.input_columns)
    texts = [text for block in stream_texts(predictor, table, cell_errors, output, changes) for text in block]
    for window, texts_of_row in zip(windows, texts, strict=True):
        if texts_of_row and texts_of_row[0].text:
            segment = TranscriptSegment(window.start, window.end, texts_of_row[0].text)
            found[window.row].append(segment)


def _decoded_audio(block: RowBlock, audio: Audio) -> Iterator[tuple[int, np.ndarray]]:
    """The position in the block and the samples `[samples]` int16 of every present audio cell."""
    prepared = audio.prepare(block)
    for position, item in enumerate(prepared.index.tolist()):
        if item >= 0:
            values = prepared.items.take(np.array([item]))["values"][0]
            yield position, np.ascontiguousarray(values.mean(axis=1).round().astype(np.int16))


def _audio_input(preparation: Preparation, name: str | None) -> tuple[str, Audio]:
    audios = {key: modality for key, modality in preparation.modalities.items() if isinstance(modality, Audio)}
    if not audios:
        raise DataError("the model has no audio input")
    if name is None and len(audios) > 1:
        raise RecipeError("input", f"the model has several audio inputs; choose one: {', '.join(audios)}")
    chosen = name or next(iter(audios))
    if chosen not in audios:
        raise RecipeError("input", f"the model has no audio input of this name; {did_you_mean(chosen, audios)}")
    return chosen, audios[chosen]


def _max_seconds(audio: Audio) -> float:
    """The maximum seconds of audio in one pass: that of the checkpoint, or else of the training."""
    longest = None if audio.card is None else audio_feature_extractor(audio.card).max_samples
    return float(audio.request().seconds) if longest is None else longest / audio.options.sampling_rate
