"""Texts from a list: a trie over their tokens."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import numpy as np

from polymodal.core.errors import RecipeError
from polymodal.generation.constraints.base import Constraint, Cursor
from polymodal.generation.tokenizer import TextTokenizer


class ChoicesConstraint(Constraint):
    """One of some texts, token by token as the tokenizer cuts them.

    following: by node, the tokens that may follow and the nodes they lead to; the end leads nowhere (-1)
    needed: by node, the fewest tokens to the end, the end included
    """

    def __init__(self, texts: Sequence[str], codec: TextTokenizer) -> None:
        self.vocabulary, self.end = codec.vocabulary, codec.end
        self.following: list[dict[int, int]] = [{}]
        ids = codec.encode(texts)
        for text, read, one in zip(texts, codec.decode(ids), ids, strict=True):
            if read != unicodedata.normalize("NFC", text.strip()) and read != text.strip():
                raise RecipeError("choices", f"{text!r} cannot be written with these tokens; it reads {read!r}")
            self._add(one)
        self.needed = [0] * len(self.following)
        for node in reversed(range(len(self.following))):
            self.needed[node] = 1 + min(0 if then < 0 else self.needed[then] for then in self.following[node].values())

    def _add(self, ids: Sequence[int]) -> None:
        node = 0
        for token in ids:
            if token not in self.following[node]:
                self.following[node][token] = len(self.following)
                self.following.append({})
            node = self.following[node][token]
        self.following[node][self.end] = -1

    def start(self, steps: int) -> Cursor:
        if self.needed[0] > steps:
            raise RecipeError("choices", f"the shortest has {self.needed[0]} tokens, and {steps} are allowed")
        return _Place(self, 0)


class _Place(Cursor):
    """A node of the trie."""

    def __init__(self, trie: ChoicesConstraint, node: int) -> None:
        self.trie, self.node = trie, node

    def allowed(self, left: int) -> np.ndarray:
        mask = np.zeros(self.trie.vocabulary, dtype=bool)
        for token, then in self.trie.following[self.node].items():
            mask[token] = then < 0 or self.trie.needed[then] < left
        return mask

    def advance(self, token: int, left: int) -> bool:
        then = self.trie.following[self.node][token]
        if self.trie.needed[then] > left:
            return False
        self.node = then
        return True

    def closing(self) -> int:
        following = self.trie.following[self.node]
        return min(following, key=lambda token: 0 if following[token] < 0 else self.trie.needed[following[token]])

    def copy(self) -> Cursor:
        return _Place(self.trie, self.node)
