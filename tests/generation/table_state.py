"""A state whose next token depends, by a table, on the row and the last two tokens: everything about it can be
counted."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor

from polymodal.generation.tokenizer import TextTokenizer
from polymodal.nn.decoders.text_decoder import DecodingState

LETTERS = "abc"
TOKENIZER = TextTokenizer.train(["a b c"], 262, merge=False)


class Table(DecodingState):
    """logits `[rows, vocabulary + 1, vocabulary + 1, vocabulary]`: by row, the token before the last, and the last;
    `vocabulary` stands for the beginning."""

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits
        self.vocabulary = logits.shape[-1]
        self.row = torch.arange(len(logits))
        self.last = torch.full((len(logits), 2), self.vocabulary)
        self.widths: list[int] = []

    def step(self, tokens: Tensor | None) -> Tensor:
        if tokens is not None:
            assert tokens.shape == self.row.shape
            self.last = torch.stack([self.last[:, 1], tokens], dim=1)
        self.widths.append(len(self.row))
        return self.logits[self.row, self.last[:, 0], self.last[:, 1]]

    def reorder(self, rows: Tensor) -> None:
        self.row, self.last = self.row[rows], self.last[rows]


class Small(TextTokenizer):
    """A tokenizer of few tokens: the end (0), and letters."""

    def __init__(self, letters: str = LETTERS) -> None:
        full = TextTokenizer.train(["a b c"], 262, merge=False)
        super().__init__(full.backend, 1, 0, 1 + len(letters))
        self.letters = letters

    def decode(self, tokens):  # type: ignore[no-untyped-def]
        return ["".join(self.letters[token - 1] for token in one) for one in tokens]


def random_table(rows: int, vocabulary: int, seed: int, spread: float = 2.0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return spread * torch.randn(rows, vocabulary + 1, vocabulary + 1, vocabulary, generator=draw)


def every_text(table: Tensor, row: int, end: int, steps: int) -> Iterator[tuple[list[int], float, int, str]]:
    """Every outcome of writing in a row: tokens, log-probability, length with the end, how it ended."""
    said = table[row].log_softmax(-1)
    vocabulary = table.shape[-1]
    others = [token for token in range(vocabulary) if token != end]
    for length in range(steps + 1):
        for tokens in itertools.product(others, repeat=length):
            path = [vocabulary, vocabulary, *tokens]
            total = sum(float(said[path[at], path[at + 1], path[at + 2]]) for at in range(length))
            if length == steps:
                yield list(tokens), total, length, "length"
            else:
                yield list(tokens), total + float(said[path[-2], path[-1], end]), length + 1, "end"
