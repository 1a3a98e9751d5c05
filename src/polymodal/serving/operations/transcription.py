"""Transcripts of recordings of any length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from polymodal.data.media.metadata import read_metadata
from polymodal.data.media.source import MediaError
from polymodal.data.table.cell_errors import CellErrors
from polymodal.model.transcription import TranscriptSegment, transcribe
from polymodal.serving.operations.base import BadCell, Operation, with_bad_cells
from polymodal.serving.rows import Row
from polymodal.serving.served_model import ServedModel


@dataclass(frozen=True)
class Transcript:
    """The segments of a recording in order of time, and its length in seconds."""

    segments: Sequence[TranscriptSegment]
    seconds: float

    @property
    def text(self) -> str:
        """The whole text."""
        return " ".join(one.text for one in self.segments)


@dataclass(frozen=True)
class TranscribeRows(Operation):
    """Transcripts of one output.

    output: the text output
    column: the column of the recordings
    temperature: of the sampling; None: that of the recipe
    """

    output: str
    column: str
    temperature: float | None = None

    def compute(self, served: ServedModel, rows: list[Row]) -> list[Any]:
        model, errors = served.load_single(), CellErrors()
        headers = read_metadata("audio", [row[self.column] for row in rows], None, served.limits)
        changes: dict[str, Any] = {} if self.temperature is None else {"temperature": self.temperature}
        found = transcribe(model.predictor, model.open(rows), errors, output=self.output, **changes)
        answers: list[Any] = []
        for segments, header in zip(found, headers, strict=True):
            if isinstance(header, MediaError):
                answers.append(BadCell(self.column, str(header)))
            else:
                answers.append(Transcript(segments, header.seconds or 0.0))
        return with_bad_cells(answers, errors)

    def joins(self, served: ServedModel) -> bool:
        _, task = served.text_task(self.output)
        chosen = task.options.generation.temperature if self.temperature is None else self.temperature
        return bool(chosen == 0)
