"""Prompts: texts with placeholders for cells of the row."""

from __future__ import annotations

import re
from typing import Literal

import numpy as np

from polymodal.core.errors import RecipeError
from polymodal.data.table.block import RowBlock
from polymodal.generation.tokenizer import TextTokenizer
from polymodal.modalities.text import parse_text
from polymodal.tasks.text_targets import object_array

PLACEHOLDER = re.compile(r"\{([^{}]+)\}")
_PARTS = re.compile(r"(\{\{|\}\}|\{[^{}]+\})")

#: Handling of prompts that are too long.
Overflow = Literal["error", "truncate"]


class PromptTemplate:
    """A text with column names in braces; `{{` and `}}` are literal braces. A missing cell becomes an empty text.

    option: name of the option, for errors
    columns: columns in the template

    Raises:
        RecipeError: a brace is not closed, or the text looks like a column name without braces.
    """

    def __init__(self, text: str, option: str) -> None:
        self.parts = [part for part in _PARTS.split(text) if part]
        self.columns = list(dict.fromkeys(part[1:-1] for part in self.parts if PLACEHOLDER.fullmatch(part)))
        for part in self.parts:
            if not _PARTS.fullmatch(part) and ("{" in part or "}" in part):
                raise RecipeError(option, f"unbalanced brace in {part!r}; write {{{{ or }}}} for a literal brace")
        if text.strip().isidentifier():
            problem = f"{text!r} is a constant text; write a column name in braces, as {{{text.strip()}}}"
            raise RecipeError(option, problem)

    def texts(self, block: RowBlock) -> list[str | None]:
        """Text of each row of a block; None if a cell is not a text."""
        cells = {column: [parse_text(cell) for cell in block.cells(column)] for column in self.columns}
        return [self._fill({name: values[row] for name, values in cells.items()}) for row in range(len(block))]

    def _fill(self, cells: dict[str, str | None]) -> str | None:
        if any(text is None for text in cells.values()):
            return None
        results = []
        for part in self.parts:
            if PLACEHOLDER.fullmatch(part):
                results.append(cells[part[1:-1]] or "")
            else:
                results.append({"{{": "{", "}}": "}"}.get(part, part))
        return "".join(results)

    def first_invalid_column(self, block: RowBlock, position: int) -> str:
        """First column whose cell in this row is not a text."""
        return next(column for column in self.columns if parse_text(block.cells(column)[position]) is None)


class Prompt:
    """A template whose text the generated text continues.

    columns: columns in the template
    """

    def __init__(self, template: str) -> None:
        self.template = PromptTemplate(template, "prompt")
        self.columns = self.template.columns

    def tokenizer_texts(self, block: RowBlock) -> set[str]:
        """Texts of a block on which a tokenizer is trained."""
        return {text for text in self.template.texts(block) if text}

    def prepare(self, block: RowBlock, tokenizer: TextTokenizer, max_length: int, overflow: Overflow) -> np.ndarray:
        """Token ids of the prompts of a block, `[rows]` int32 arrays. None, with a cell error, if a cell is not a text
        or (`error`) the prompt is longer than `max_length`; `truncate` keeps the last tokens of such a prompt."""
        texts = self.template.texts(block)
        results: list[np.ndarray | None] = []
        for position, (text, ids) in enumerate(
            zip(texts, tokenizer.encode([text or "" for text in texts]), strict=True)
        ):
            usable = text is not None and (len(ids) <= max_length or overflow == "truncate")
            if text is None:
                block.add_error(
                    position,
                    self.template.first_invalid_column(block, position),
                    "the prompt needs a text in this column",
                )
            elif not usable:
                column = self.columns[0] if self.columns else ""
                block.add_error(position, column, f"the prompt has {len(ids)} tokens; the maximum is {max_length}")
            results.append(np.asarray(ids[-max_length:], np.int32) if usable else None)
        return object_array(results)
