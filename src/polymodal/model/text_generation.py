"""What a model that writes texts can do beside predicting them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from polymodal.core.errors import DataError, RecipeError, nearest
from polymodal.data.table.cell_errors import Faults, warn_of_faults
from polymodal.data.table.table import Table
from polymodal.generation.config import changed_writing
from polymodal.generation.output import Written
from polymodal.generation.stream import stream
from polymodal.inference.inference import PREDICTION_BATCH, write_rows
from polymodal.nn.network import Network
from polymodal.preparation.preparation import Preparation
from polymodal.runtime.compute import Machine

if TYPE_CHECKING:
    from polymodal.model.transcription import Segment


class WritesTexts:
    """The part of a `Model` that writes: whole texts, texts as a stream, and the texts of long sounds."""

    preparation: Preparation
    network: Network

    @property
    @abstractmethod
    def machine(self) -> Machine:
        """How it is computed."""

    @abstractmethod
    def open(self, data: Any, root: Path | str | None = None, *, targets: bool = False) -> Table:
        """Open `data` as a table with the columns that the model reads."""

    def generate(
        self,
        data: Any,
        *,
        output: str | None = None,
        root: Path | str | None = None,
        strict: bool = False,
        **changes: Any,
    ) -> list[list[Written]]:
        """Write texts for each row of `data`, and tell what the model thought of them.

        output: the text output to write; silent where there is only one
        changes: options of `generation.options.Writing` (`beams`, `temperature`, `samples`, `regex` ...) on top of
            those of the recipe
        data, root, strict: as in `predict`

        Returns `samples` texts for each row; none for a row whose prompt cannot be used.

        Raises:
            RecipeError: there is no such text output, or no such option.
            DataError: a column is not there, or (strict) a cell cannot be used.
        """
        faults = Faults(strict)
        found = [
            texts
            for block in self.stream_texts(self.open(data, root), faults, output=output, **changes)
            for texts in block
        ]
        warn_of_faults(faults.found)
        return found

    def stream_texts(
        self, table: Table, faults: Faults, *, output: str | None = None, **changes: Any
    ) -> Iterator[list[list[Written]]]:
        """`generate` block by block, so that memory does not grow with the table."""
        name = self.text_output(output)
        task: Any = self.preparation.tasks[name]
        writing = changed_writing(task.writing, changes, f"outputs.{name}.task.writing")
        for block in self.preparation.blocks(table, faults, size=PREDICTION_BATCH):
            prepared = self.preparation.prepare_block(block)
            yield write_rows(
                self.network, self.preparation, name, prepared, writing, machine=self.machine, numbers=block.rows
            )

    def stream_tokens(
        self, row: Any, *, output: str | None = None, root: Path | str | None = None, **changes: Any
    ) -> Iterator[str]:
        """Write the text of one row, and give its pieces as they are written; together they are what `generate` gives.

        row: a dict of cells, or a table of one row; `output`, `root` and `changes` are those of `generate`

        Raises:
            RecipeError: as `generate`, and where several texts or beams are asked for.
            DataError: a column is not there, there is not exactly one row, or a cell of it cannot be used.
        """
        name, table = self.text_output(output), self.open(row, root)
        if len(table) != 1:
            raise DataError(f"one row is streamed at a time, and there are {len(table)}", file=table.name)
        task: Any = self.preparation.tasks[name]
        writing = changed_writing(task.writing, changes, f"outputs.{name}.task.writing")
        (block,) = self.preparation.blocks(table, Faults(strict=True))
        prepared = self.preparation.prepare_block(block)
        with torch.inference_mode(), self.machine.active():
            self.network.eval()
            batch = self.preparation.batch(prepared, np.arange(1))
            steps = writing.max_tokens or task.most
            draft = self.network.draft(name, self.network.views(batch), batch, steps)
            try:
                pieces = stream(draft, writing, task.codec, steps)
            except RecipeError as error:
                raise error.under(f"outputs.{name}.task.writing") from None
        return self._computed(pieces)

    def _computed(self, pieces: Iterator[str]) -> Iterator[str]:
        """The pieces, each computed in this model's way; between them, the caller computes in its own."""
        while True:
            with torch.inference_mode(), self.machine.active():
                piece = next(pieces, None)
            if piece is None:
                return
            yield piece

    def transcribe(
        self,
        data: Any,
        *,
        input: str | None = None,
        output: str | None = None,
        window: float | None = None,
        root: Path | str | None = None,
        strict: bool = False,
        **changes: Any,
    ) -> list[list[Segment]]:
        """Write the text of sounds of any length, and of the sound of clips, with the times of its parts.

        A sound is cut in its pauses into windows of at most `window` seconds, and each is written by itself; see
        `generation.windows.transcribe`, which says what `input`, `output` and `window` are silently. Other arguments
        and errors are those of `generate`.

        Returns the segments of each row in the order of time; none where the sound is missing or quiet.
        """
        from polymodal.model.transcription import transcribe

        faults = Faults(strict)
        table = self.open(data, root)
        found = transcribe(self, table, faults, input=input, output=output, window=window, **changes)  # type: ignore[arg-type]
        warn_of_faults(faults.found)
        return found

    def text_output(self, output: str | None = None) -> str:
        """The name of the text output that is meant.

        Raises:
            RecipeError: there is none of that name, or, without a name, none or several.
        """
        writes = [name for name, task in self.preparation.tasks.items() if task.writes]
        if output is not None and output not in writes:
            raise RecipeError(f"outputs.{output}", f"the model writes no such text; {nearest(output, writes)}")
        if output is None and len(writes) != 1:
            raise RecipeError("outputs", f"say which text to write: {', '.join(writes) or 'the model writes none'}")
        return output or writes[0]
