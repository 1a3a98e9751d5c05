"""Texts held to a regular expression or a JSON schema."""

from __future__ import annotations

import importlib
import json
from typing import Any, Self
from weakref import WeakKeyDictionary

import numpy as np

from polymodal.core.errors import MissingExtraError, PolymodalError, RecipeError
from polymodal.generation.constraints.base import Constraint, Cursor
from polymodal.generation.constraints.grammar_completion import ByteTokenizer, finish
from polymodal.generation.token_bytes import TokenBytes
from polymodal.generation.tokenizer import TextTokenizer

#: JSON is written on one line, as `json.dumps` writes it; a schema's own "x-guidance" may say otherwise.
ONE_LINE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
#: The most bytes of a way to finish a text.
LONGEST = 8_192

_pieces: WeakKeyDictionary[TextTokenizer, TokenBytes] = WeakKeyDictionary()


class GrammarConstraint(Constraint):
    """What llguidance compiles a rule to, over the tokens of a codec and over single bytes.

    Over bytes, a way to finish the text is searched whenever the text leaves the one that is known; a token after which
    none fits in the tokens that are left is refused. Where a tokenizer begins texts with a blank, one may come first.

    key: of `GenerationConfig`, for messages
    rule: what `text` is, in llguidance's dialect of Lark
    """

    def __init__(self, key: str, rule: str, codec: TextTokenizer) -> None:
        guidance = _guidance(key)
        self.key, self.codec = key, codec
        if codec not in _pieces:
            _pieces[codec] = TokenBytes(codec, guidance)
        self.pieces = _pieces[codec]
        if not self.pieces.data:
            raise RecipeError(key, "the tokens of this decoder do not say which bytes they are; use choices instead")
        start = "start: SPACE? text\nSPACE: / /" if self.pieces.spaced else "start: text"
        grammar = guidance.LLMatcher.grammar_from_lark(f"{start}\ntext: {rule}")
        letters = guidance.LLTokenizer(guidance.TokenizerWrapper(ByteTokenizer()))
        self.tokens, self.letters = (
            guidance.LLMatcher(each, grammar, log_level=0) for each in (self.pieces.tokenizer(guidance), letters)
        )
        for matcher in (self.letters, self.tokens):
            if matcher.is_error():
                raise RecipeError(key, _reason(matcher.get_error()))
        found = finish(self.letters, LONGEST)
        if found is None:
            raise RecipeError(key, f"no text of at most {LONGEST} bytes meets it")
        finished = self.pieces.cut(found)
        if finished is None:
            raise RecipeError(key, f"{found.decode().strip()!r} cannot be written with the tokens of this decoder")
        self.finished = finished

    @classmethod
    def of_regex(cls, regex: str, codec: TextTokenizer) -> Self:
        """Texts that match a regular expression as a whole (syntax of Rust's crate regex, without look-around)."""
        return cls("regex", f"/{_guidance('regex').regex_to_lark(regex, '')}/", codec)

    @classmethod
    def of_schema(cls, schema: dict[str, Any], codec: TextTokenizer) -> Self:
        """JSON documents that meet a schema."""
        guided = {**schema, "x-guidance": {**ONE_LINE, **schema.get("x-guidance", {})}}
        return cls("json_schema", f"%json {json.dumps(guided)}", codec)

    def start(self, steps: int) -> Cursor:
        needed = len(self.finished) + 1
        if needed > steps:
            problem = f"a text that meets it has {needed} tokens with its end, as {self.codec.decode([self.finished])}"
            raise RecipeError(self.key, f"{problem}, and max_tokens allows {steps}")
        return _State(self, self.tokens.deep_copy(), self.letters.deep_copy(), self.finished)


class _State(Cursor):
    """A matcher over tokens, one over bytes at the same place, and tokens that finish the text from there."""

    def __init__(self, grammar: GrammarConstraint, tokens: Any, letters: Any, finished: list[int]) -> None:
        self.grammar, self.tokens, self.letters, self.finished = grammar, tokens, letters, finished

    def allowed(self, left: int) -> np.ndarray:
        vocabulary = self.grammar.codec.vocabulary
        bits = np.unpackbits(np.frombuffer(self.tokens.compute_bitmask(), np.uint8), bitorder="little")
        mask = np.zeros(vocabulary, dtype=bool)
        mask[: len(bits)] = bits[:vocabulary]
        if left < 2:
            mask[: self.grammar.codec.end] = mask[self.grammar.codec.end + 1 :] = False
        if not mask.any():
            raise PolymodalError(f"{self.grammar.key}: llguidance gave up: {_reason(self.tokens.get_error())}")
        return mask

    def advance(self, token: int, left: int) -> bool:
        tokens, letters = self.tokens.deep_copy(), self.letters.deep_copy()
        data = list(self.grammar.pieces.data[token])
        if not tokens.consume_token(token) or letters.try_consume_tokens(data) < len(data):
            return False
        finished = self._finished(token, letters, left)
        if finished is None:
            return False
        self.tokens, self.letters, self.finished = tokens, letters, finished
        return True

    def closing(self) -> int:
        return self.finished[0] if self.finished else self.grammar.codec.end

    def copy(self) -> Cursor:
        return _State(self.grammar, self.tokens.deep_copy(), self.letters.deep_copy(), self.finished)

    def _finished(self, token: int, letters: Any, left: int) -> list[int] | None:
        """Fewer than `left` tokens that finish the text after `token`: the rest of those that are known, or found."""
        if self.finished[:1] == [token]:
            return self.finished[1:]
        pieces = self.grammar.pieces
        for begin in range(len(self.finished) + 1):
            rest = self.finished[begin:]
            if len(rest) < left and _meets(letters, pieces.joined(rest)):
                return rest
        data = finish(letters, min(LONGEST, left * pieces.longest))
        found = None if data is None else pieces.cut(data)
        return found if found is not None and len(found) < left else None


def _meets(letters: Any, data: bytes) -> bool:
    """Whether these bytes finish the text; the matcher stays where it is."""
    if letters.validate_tokens(list(data)) < len(data):
        return False
    taken = letters.try_consume_tokens(list(data))
    met = taken == len(data) and letters.is_accepting()
    letters.rollback(taken)
    return met


def _guidance(key: str) -> Any:
    try:
        return importlib.import_module("llguidance")
    except ImportError:
        raise MissingExtraError("llguidance", "text", f"writing by {key}") from None


def _reason(message: str) -> str:
    """What is wrong, without the listing of the grammar that llguidance adds."""
    lines = [line for line in message.splitlines() if line.strip()]
    said = next((line for line in lines if line.startswith("error: ")), lines[0] if lines else "for no stated reason")
    return said.removeprefix("error: ").split("failed to compile JSON schema: ")[-1]
