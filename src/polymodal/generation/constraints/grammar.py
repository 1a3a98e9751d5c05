"""Generation constrained to a regular expression or a JSON schema."""

from __future__ import annotations

import importlib
import json
from typing import Any, Self
from weakref import WeakKeyDictionary

import numpy as np

from polymodal.core.errors import MissingExtraError, PolymodalError, RecipeError
from polymodal.generation.constraints.base import Constraint, Cursor
from polymodal.generation.constraints.grammar_completion import ByteTokenizer, find_completion
from polymodal.generation.token_bytes import TokenBytes
from polymodal.generation.tokenizer import TextTokenizer

#: JSON is generated on one line, in the format of `json.dumps`; a schema can override this with "x-guidance".
ONE_LINE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
#: Maximum number of bytes of a completion.
MAX_COMPLETION_BYTES = 8_192

_token_bytes: WeakKeyDictionary[TextTokenizer, TokenBytes] = WeakKeyDictionary()


class GrammarConstraint(Constraint):
    """A grammar compiled by llguidance, over the tokens of a tokenizer and over single bytes.

    A completion of the text is searched over bytes whenever the text departs from the known completion. A token is
    rejected if no completion fits into the remaining tokens. If the tokenizer prepends a space to texts, the text may
    begin with a space.

    key: the option of `GenerationConfig`, for error messages
    rule: the rule `text` in llguidance's dialect of Lark
    """

    def __init__(self, key: str, rule: str, tokenizer: TextTokenizer) -> None:
        guidance = _import_llguidance(key)
        self.key, self.tokenizer = key, tokenizer
        if tokenizer not in _token_bytes:
            _token_bytes[tokenizer] = TokenBytes(tokenizer, guidance)
        self.token_bytes = _token_bytes[tokenizer]
        if not self.token_bytes.data:
            raise RecipeError(key, "the bytes of this decoder's tokens are unknown; use choices instead")
        start = "start: SPACE? text\nSPACE: / /" if self.token_bytes.leading_space else "start: text"
        grammar = guidance.LLMatcher.grammar_from_lark(f"{start}\ntext: {rule}")
        byte_tokenizer = guidance.LLTokenizer(guidance.TokenizerWrapper(ByteTokenizer()))
        self.token_matcher, self.byte_matcher = (
            guidance.LLMatcher(each, grammar, log_level=0)
            for each in (self.token_bytes.llguidance_tokenizer(guidance), byte_tokenizer)
        )
        for matcher in (self.byte_matcher, self.token_matcher):
            if matcher.is_error():
                raise RecipeError(key, _reason(matcher.get_error()))
        data = find_completion(self.byte_matcher, MAX_COMPLETION_BYTES)
        if data is None:
            raise RecipeError(key, f"no text of at most {MAX_COMPLETION_BYTES} bytes satisfies it")
        completion = self.token_bytes.encode(data)
        if completion is None:
            raise RecipeError(key, f"the tokens of this decoder cannot represent {data.decode().strip()!r}")
        self.completion = completion

    @classmethod
    def from_regex(cls, regex: str, tokenizer: TextTokenizer) -> Self:
        """Texts that match a regular expression as a whole (syntax of the Rust crate regex, without look-around)."""
        return cls("regex", f"/{_import_llguidance('regex').regex_to_lark(regex, '')}/", tokenizer)

    @classmethod
    def from_json_schema(cls, schema: dict[str, Any], tokenizer: TextTokenizer) -> Self:
        """JSON documents that are valid under a schema."""
        guided = {**schema, "x-guidance": {**ONE_LINE, **schema.get("x-guidance", {})}}
        return cls("json_schema", f"%json {json.dumps(guided)}", tokenizer)

    def start(self, max_new_tokens: int) -> Cursor:
        needed = len(self.completion) + 1
        if needed > max_new_tokens:
            example = self.tokenizer.decode([self.completion])
            problem = f"a text that satisfies it has {needed} tokens including the end token, for example {example}"
            raise RecipeError(self.key, f"{problem}, but max_new_tokens is {max_new_tokens}")
        return _GrammarCursor(self, self.token_matcher.deep_copy(), self.byte_matcher.deep_copy(), self.completion)


class _GrammarCursor(Cursor):
    """A matcher over tokens, a matcher over bytes at the same position, and the tokens of a completion."""

    def __init__(
        self, grammar: GrammarConstraint, token_matcher: Any, byte_matcher: Any, completion: list[int]
    ) -> None:
        self.grammar, self.completion = grammar, completion
        self.token_matcher, self.byte_matcher = token_matcher, byte_matcher

    def allowed_tokens(self, left: int) -> np.ndarray:
        vocab_size, end = self.grammar.tokenizer.vocab_size, self.grammar.tokenizer.eos_id
        bits = np.unpackbits(np.frombuffer(self.token_matcher.compute_bitmask(), np.uint8), bitorder="little")
        mask = np.zeros(vocab_size, dtype=bool)
        mask[: len(bits)] = bits[:vocab_size]
        if left < 2:
            mask[:end] = mask[end + 1 :] = False
        if not mask.any():
            reason = _reason(self.token_matcher.get_error())
            raise PolymodalError(f"{self.grammar.key}: llguidance failed: {reason}")
        return mask

    def advance(self, token: int, left: int) -> bool:
        token_matcher, byte_matcher = self.token_matcher.deep_copy(), self.byte_matcher.deep_copy()
        data = list(self.grammar.token_bytes.data[token])
        if not token_matcher.consume_token(token) or byte_matcher.try_consume_tokens(data) < len(data):
            return False
        completion = self._completion(token, byte_matcher, left)
        if completion is None:
            return False
        self.token_matcher, self.byte_matcher, self.completion = token_matcher, byte_matcher, completion
        return True

    def next_token_to_finish(self) -> int:
        return self.completion[0] if self.completion else self.grammar.tokenizer.eos_id

    def copy(self) -> Cursor:
        return _GrammarCursor(
            self.grammar, self.token_matcher.deep_copy(), self.byte_matcher.deep_copy(), self.completion
        )

    def _completion(self, token: int, byte_matcher: Any, left: int) -> list[int] | None:
        """Fewer than `left` tokens that complete the text after `token`: a suffix of the known completion, or a new
        one."""
        if self.completion[:1] == [token]:
            return self.completion[1:]
        token_bytes = self.grammar.token_bytes
        for begin in range(len(self.completion) + 1):
            rest = self.completion[begin:]
            if len(rest) < left and _completes(byte_matcher, token_bytes.decode(rest)):
                return rest
        data = find_completion(byte_matcher, min(MAX_COMPLETION_BYTES, left * token_bytes.longest))
        tokens = None if data is None else token_bytes.encode(data)
        return tokens if tokens is not None and len(tokens) < left else None


def _completes(matcher: Any, data: bytes) -> bool:
    """Whether these bytes complete the text; the matcher keeps its position."""
    if matcher.validate_tokens(list(data)) < len(data):
        return False
    consumed = matcher.try_consume_tokens(list(data))
    complete = consumed == len(data) and matcher.is_accepting()
    matcher.rollback(consumed)
    return complete


def _import_llguidance(key: str) -> Any:
    try:
        return importlib.import_module("llguidance")
    except ImportError:
        raise MissingExtraError("llguidance", "text", f"generation with {key}") from None


def _reason(message: str) -> str:
    """The error in a message of llguidance, without its listing of the grammar."""
    lines = [line for line in message.splitlines() if line.strip()]
    error = next((line for line in lines if line.startswith("error: ")), lines[0] if lines else "unknown error")
    return error.removeprefix("error: ").split("failed to compile JSON schema: ")[-1]
