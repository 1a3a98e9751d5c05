"""Generation limited to a list of texts: a trie over their tokens."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import numpy as np

from polymodal.core.errors import RecipeError
from polymodal.generation.constraints.base import Constraint, Cursor
from polymodal.generation.tokenizer import TextTokenizer


class ChoicesConstraint(Constraint):
    """One of several texts, in the tokenization of the tokenizer.

    children: by node, the tokens that may follow, with their nodes; the end token has the node -1
    distance: by node, the fewest tokens to the end, including the end token
    """

    def __init__(self, texts: Sequence[str], tokenizer: TextTokenizer) -> None:
        self.vocab_size, self.end = tokenizer.vocab_size, tokenizer.eos_id
        self.children: list[dict[int, int]] = [{}]
        ids = tokenizer.encode(texts)
        for text, decoded, tokens in zip(texts, tokenizer.decode(ids), ids, strict=True):
            if decoded != unicodedata.normalize("NFC", text.strip()) and decoded != text.strip():
                problem = f"the tokenizer cannot represent {text!r}; it decodes to {decoded!r}"
                raise RecipeError("choices", problem)
            self._add(tokens)
        self.distance = [0] * len(self.children)
        for node in reversed(range(len(self.children))):
            self.distance[node] = 1 + min(
                0 if child < 0 else self.distance[child] for child in self.children[node].values()
            )

    def _add(self, ids: Sequence[int]) -> None:
        node = 0
        for token in ids:
            if token not in self.children[node]:
                self.children[node][token] = len(self.children)
                self.children.append({})
            node = self.children[node][token]
        self.children[node][self.end] = -1

    def start(self, max_new_tokens: int) -> Cursor:
        if self.distance[0] > max_new_tokens:
            problem = f"the shortest choice has {self.distance[0]} tokens, but the limit is {max_new_tokens}"
            raise RecipeError("choices", problem)
        return _TrieCursor(self, 0)


class _TrieCursor(Cursor):
    """A node of the trie."""

    def __init__(self, trie: ChoicesConstraint, node: int) -> None:
        self.trie, self.node = trie, node

    def allowed_tokens(self, left: int) -> np.ndarray:
        mask = np.zeros(self.trie.vocab_size, dtype=bool)
        for token, child in self.trie.children[self.node].items():
            mask[token] = child < 0 or self.trie.distance[child] < left
        return mask

    def advance(self, token: int, left: int) -> bool:
        child = self.trie.children[self.node][token]
        if self.trie.distance[child] > left:
            return False
        self.node = child
        return True

    def next_token_to_finish(self) -> int:
        children = self.trie.children[self.node]
        return min(children, key=lambda token: 0 if children[token] < 0 else self.trie.distance[children[token]])

    def copy(self) -> Cursor:
        return _TrieCursor(self.trie, self.node)
