"""The methods of a model that generate texts and images, and transcribe audio."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polymodal.core.argument_types import check_arguments
from polymodal.data.table.cell_errors import CellErrors, warn_cell_errors
from polymodal.data.table.table import Table
from polymodal.inference.predictor import Predictor
from polymodal.preparation.preparation import Preparation

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

    from polymodal.generation.output import GenerationOutput
    from polymodal.model.transcription import TranscriptSegment


class GeneratesTexts(ABC):
    """Base class of `Model`: generation of texts and images, and transcription, by its network."""

    preparation: Preparation

    @property
    @abstractmethod
    def predictor(self) -> Predictor:
        """The predictor of the network."""

    @abstractmethod
    def open(self, data: Any, root: Path | str | None = None, *, targets: bool = False) -> Table:
        """Open `data` as a table and check that it has the columns of the inputs (and targets)."""

    @check_arguments
    def generate(
        self,
        data: Any,
        *,
        output: str | None = None,
        root: Path | str | None = None,
        strict: bool = False,
        **changes: Any,
    ) -> list[list[GenerationOutput]]:
        """Generate texts for each row of `data`, with their log-likelihoods.

        output: the text output; default: the only one
        changes: options of `generation.config.GenerationConfig` (`num_beams`, `temperature`, `num_return_sequences`,
            `regex` ...) that override those of the recipe
        data, root, strict: as in `predict`

        Returns `num_return_sequences` texts for each row; an empty list for rows with an unusable prompt.

        Raises:
            RecipeError: the text output or an option does not exist.
            DataError: a column is missing, or (strict) a cell is unusable.
        """
        cell_errors = CellErrors(strict)
        blocks = self.stream_texts(self.open(data, root), cell_errors, output=output, **changes)
        found = [texts for block in blocks for texts in block]
        warn_cell_errors(cell_errors.errors)
        return found

    @check_arguments
    def stream_texts(
        self, table: Table, cell_errors: CellErrors, *, output: str | None = None, **changes: Any
    ) -> Iterator[list[list[GenerationOutput]]]:
        """`generate` block by block, with memory independent of the table size."""
        from polymodal.model import text_generation

        return text_generation.stream_texts(self._text_predictor(output), table, cell_errors, output, changes)

    @check_arguments
    def stream_tokens(
        self, row: Any, *, output: str | None = None, root: Path | str | None = None, **changes: Any
    ) -> Generator[str, None, GenerationOutput]:
        """Generate the text of one row, and yield text as it is generated. The joined text equals that of `generate`,
        whose `GenerationOutput` is the value that the generator returns at its end.

        row: a dict of cells, or a table of one row
        output, root, changes: as in `generate`

        Raises:
            RecipeError: as `generate`; also for several return sequences or beams.
            DataError: a column is missing, there is not exactly one row, or a cell is unusable.
        """
        from polymodal.model import text_generation

        return text_generation.stream_tokens(self._text_predictor(output), self.open(row, root), output, changes)

    @check_arguments
    def generate_images(
        self,
        data: Any,
        *,
        output: str | None = None,
        root: Path | str | None = None,
        strict: bool = False,
        **changes: Any,
    ) -> list[list[Image]]:
        """Generate images for each row of `data`.

        output: the image output; default: the only one
        changes: options of `generation.image_sampling.ImageSamplingConfig` (`temperature`, `top_k`,
            `num_return_sequences`, `seed` ...) that override those of the recipe
        data, root, strict: as in `predict`

        Returns `num_return_sequences` PIL images for each row. The images of a row depend on the seed and on its
        number in `data`, not on the other rows.

        Raises:
            RecipeError: the image output or an option does not exist.
            DataError: a column is missing, or (strict) a cell is unusable.
        """
        from PIL.Image import fromarray

        cell_errors = CellErrors(strict)
        blocks = self.stream_images(self.open(data, root), cell_errors, output=output, **changes)
        found = [[fromarray(image) for image in row] for block in blocks for row in block]
        warn_cell_errors(cell_errors.errors)
        return found

    @check_arguments
    def stream_images(
        self, table: Table, cell_errors: CellErrors, *, output: str | None = None, **changes: Any
    ) -> Iterator[np.ndarray]:
        """`generate_images` block by block: arrays `[rows, num_return_sequences, size, size, 3]` uint8."""
        from polymodal.model import image_generation

        image_generation.image_output(self.preparation, output)
        return image_generation.stream_images(self.predictor, table, cell_errors, output, changes)

    @check_arguments
    def transcribe(
        self,
        data: Any,
        *,
        input: str | None = None,
        output: str | None = None,
        chunk_seconds: float | None = None,
        root: Path | str | None = None,
        strict: bool = False,
        **changes: Any,
    ) -> list[list[TranscriptSegment]]:
        """Transcribe audio of any length, including the audio track of videos, with the times of the segments.

        The audio is cut at pauses into windows of at most `chunk_seconds`, which are transcribed separately. For
        details and the defaults of `input`, `output` and `chunk_seconds`, see `model.transcription.transcribe`. For
        other arguments and errors, see `generate`.

        Returns the segments of each row in order of time; an empty list if the audio is missing or silent.
        """
        from polymodal.model.transcription import transcribe  # imports audio libraries, which most models do not need

        cell_errors, predictor = CellErrors(strict), self._text_predictor(output)
        table = self.open(data, root)
        found = transcribe(
            predictor, table, cell_errors, input=input, output=output, chunk_seconds=chunk_seconds, **changes
        )
        warn_cell_errors(cell_errors.errors)
        return found

    def _text_predictor(self, output: str | None = None) -> Predictor:
        """The predictor of the network, after a check that the model has the text output.

        Raises:
            RecipeError: there is no text output of this name, or, without a name, there are none or several.
        """
        from polymodal.model.text_generation import text_output

        text_output(self.preparation, output)
        return self.predictor
