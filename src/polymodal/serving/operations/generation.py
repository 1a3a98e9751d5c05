"""Generated texts of rows: whole, or token by token."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

from polymodal.data.table.cell_errors import CellErrors
from polymodal.data.table.table import Table
from polymodal.generation.output import GenerationOutput
from polymodal.model.model import Model
from polymodal.serving.operations.base import BadCell, Operation, check_answers, with_bad_cells
from polymodal.serving.rows import Row
from polymodal.serving.served_model import ServedModel


@dataclass(frozen=True)
class GeneratedTexts:
    """The texts of a row, and the number of tokens of its prompt."""

    texts: Sequence[GenerationOutput]
    prompt_tokens: int


@dataclass(frozen=True)
class GenerateTexts(Operation):
    """Texts of one output.

    output: the output
    settings: options of `GenerationConfig` that replace those of the recipe, as JSON text
    """

    output: str
    settings: str = "{}"

    @property
    def changes(self) -> dict[str, Any]:
        """The options that replace those of the recipe."""
        changes: dict[str, Any] = json.loads(self.settings)
        return changes

    def compute(self, served: ServedModel, rows: list[Row]) -> list[Any]:
        model, errors = served.load_single(), CellErrors()
        table = model.open(rows)
        blocks = model.stream_texts(table, errors, output=self.output, **self.changes)
        texts = [one for block in blocks for one in block]
        lengths = _prompt_lengths(model, table, self.output)
        answers = [
            GeneratedTexts(one, length) if one else BadCell(self.output, "the prompt cannot be used")
            for one, length in zip(texts, lengths, strict=True)
        ]
        return with_bad_cells(answers, errors)

    def stream(self, served: ServedModel, row: Row) -> Generator[str, None, GeneratedTexts]:
        """The text of one row in pieces. Returns the whole text with its tokens."""
        model = served.load_single()
        errors = CellErrors()
        table = model.open([row])
        (length,) = _prompt_lengths(model, table, self.output, errors)
        check_answers(with_bad_cells([None], errors))
        output = yield from model.stream_tokens(table, output=self.output, **self.changes)
        return GeneratedTexts([output], length)

    def joins(self, served: ServedModel) -> bool:
        _, task = served.text_task(self.output)
        temperature = self.changes.get("temperature", task.options.generation.temperature)
        return bool(temperature == 0)


def _prompt_lengths(model: Model, table: Table, output: str, errors: CellErrors | None = None) -> list[int]:
    """The number of tokens of the prompt of each row; 0 without a prompt."""
    found: list[int] = []
    for block in model.preparation.blocks(table, CellErrors() if errors is None else errors):
        prompts = model.tasks[output].prompts(block)
        found += [0] * len(block) if prompts is None else [0 if one is None else len(one) for one in prompts]
    return found
