"""What an answer follows on: a text with places for cells of the row."""

from __future__ import annotations

import re

import numpy as np

from polymodal.data.block import Block
from polymodal.errors import RecipeError
from polymodal.generation.codec import Codec
from polymodal.modalities.text import as_text
from polymodal.tasks.answers import objects

PLACE = re.compile(r"\{([^{}]+)\}")


class Prompt:
    """A template with the names of columns in braces; `{{` and `}}` stand for braces themselves.

    A missing cell leaves its place empty. Cells are never read as control tokens.

    columns: those that it names
    """

    def __init__(self, template: str) -> None:
        self.parts = re.split(r"(\{\{|\}\}|\{[^{}]+\})", template)
        self.columns = list(dict.fromkeys(part[1:-1] for part in self.parts if PLACE.fullmatch(part)))
        if not self.columns:
            raise RecipeError("prompt", "it names no column; write columns in braces, as {question}")

    def texts(self, block: Block) -> list[str | None]:
        """The prompt of each row of a block; None where a cell is no text."""
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

    def prepare(self, block: Block, codec: Codec, most: int) -> np.ndarray:
        """Tokens of the prompts of a block, `[rows]` int32 arrays; None, and a fault, where a cell is no text or the
        prompt is longer than `most` tokens."""
        texts = self.texts(block)
        found: list[np.ndarray | None] = []
        for position, (text, ids) in enumerate(zip(texts, codec.encode([text or "" for text in texts]), strict=True)):
            if text is None:
                block.fault(position, self.columns[0], "the prompt needs a text here")
            elif len(ids) > most:
                block.fault(position, self.columns[0], f"its prompt has {len(ids)} tokens; at most {most} are read")
            usable = text is not None and len(ids) <= most
            found.append(np.asarray(ids, np.int32) if usable else None)
        return objects(found)
