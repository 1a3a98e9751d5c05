"""What an answer follows on: a text with places for cells of the row."""

from __future__ import annotations

import re
from typing import Literal

import numpy as np

from polymodal.core.errors import RecipeError
from polymodal.data.table.block import RowBlock
from polymodal.generation.tokenizer import TextTokenizer
from polymodal.modalities.text import as_text
from polymodal.tasks.text_targets import object_array

PLACE = re.compile(r"\{([^{}]+)\}")
_PARTS = re.compile(r"(\{\{|\}\}|\{[^{}]+\})")

#: What is done with a prompt that is too long.
Overflow = Literal["refuse", "cut"]


class PromptTemplate:
    """A text with the names of columns in braces; `{{` and `}}` stand for braces themselves.

    A missing cell leaves its place empty.

    option: the option of the task that holds it, for errors
    columns: those that it names

    Raises:
        RecipeError: a brace stands alone, or it is the name of a column without braces, as it seems.
    """

    def __init__(self, text: str, option: str) -> None:
        self.parts = [part for part in _PARTS.split(text) if part]
        self.columns = list(dict.fromkeys(part[1:-1] for part in self.parts if PLACE.fullmatch(part)))
        for part in self.parts:
            if not _PARTS.fullmatch(part) and ("{" in part or "}" in part):
                raise RecipeError(option, f"a brace stands alone in {part!r}; write {{{{ or }}}} for the sign itself")
        if text.strip().isidentifier():
            problem = f"{text!r} would be a fixed text; write the name of a column in braces, as {{{text.strip()}}}"
            raise RecipeError(option, problem)

    def texts(self, block: RowBlock) -> list[str | None]:
        """The text of each row of a block; None where a cell is no text."""
        cells = {column: [as_text(cell) for cell in block.cells(column)] for column in self.columns}
        return [self._filled({name: values[row] for name, values in cells.items()}) for row in range(len(block))]

    def _filled(self, cells: dict[str, str | None]) -> str | None:
        if any(text is None for text in cells.values()):
            return None
        found = []
        for part in self.parts:
            if PLACE.fullmatch(part):
                found.append(cells[part[1:-1]] or "")
            else:
                found.append({"{{": "{", "}}": "}"}.get(part, part))
        return "".join(found)

    def unusable(self, block: RowBlock, position: int) -> str:
        """The first column whose cell in this row is no text."""
        return next(column for column in self.columns if as_text(block.cells(column)[position]) is None)


class Prompt:
    """A template whose text the answer goes on from.

    columns: those that it names
    """

    def __init__(self, template: str) -> None:
        self.template = PromptTemplate(template, "prompt")
        self.columns = self.template.columns

    def learned(self, block: RowBlock) -> set[str]:
        """The texts of a block from which a tokenizer is learned."""
        return {text for text in self.template.texts(block) if text}

    def prepare(self, block: RowBlock, codec: TextTokenizer, most: int, overflow: Overflow) -> np.ndarray:
        """Tokens of the prompts of a block, `[rows]` int32 arrays; None, and a fault, where a cell is no text, or (to
        `refuse`) the prompt is longer than `most` tokens. To `cut` keeps the last tokens of such a prompt."""
        texts = self.template.texts(block)
        found: list[np.ndarray | None] = []
        for position, (text, ids) in enumerate(zip(texts, codec.encode([text or "" for text in texts]), strict=True)):
            usable = text is not None and (len(ids) <= most or overflow == "cut")
            if text is None:
                block.add_error(position, self.template.unusable(block, position), "the prompt needs a text here")
            elif not usable:
                column = self.columns[0] if self.columns else ""
                block.add_error(position, column, f"its prompt has {len(ids)} tokens; at most {most} are read")
            found.append(np.asarray(ids[-most:], np.int32) if usable else None)
        return object_array(found)
