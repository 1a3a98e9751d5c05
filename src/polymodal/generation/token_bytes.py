"""The bytes of each token of a tokenizer, in the form that llguidance expects."""

from __future__ import annotations

import json
from typing import Any

from polymodal.generation.tokenizer import TextTokenizer

SPACE = "▁"  # SentencePiece's symbol for a space


class TokenBytes:
    """The tokens of a tokenizer as bytes.

    data: bytes by token id; b"" for control tokens and ids without a token. Empty if the bytes are unknown
    longest: number of bytes of the longest token
    leading_space: whether the tokenizer prepends a space to texts
    """

    def __init__(self, tokenizer: TextTokenizer, guidance: Any) -> None:
        self.tokenizer = tokenizer
        self._llguidance_tokenizer: Any = None
        self.data = _token_bytes(tokenizer, guidance)
        self.longest = max(map(len, self.data), default=1)
        self._tokens = {data: token for token, data in reversed(list(enumerate(self.data))) if data}
        self.leading_space = bool(self.data) and self.decode(tokenizer.encode(["x"])[0]).startswith(b" ")

    def decode(self, tokens: list[int]) -> bytes:
        """The concatenated bytes of tokens."""
        return b"".join(self.data[token] for token in tokens)

    def encode(self, data: bytes) -> list[int] | None:
        """Tokens with exactly these bytes: the tokenizer's encoding if it is exact, else greedy longest match.

        None if no such tokens are found.
        """
        try:
            tokens = self.tokenizer.encode([data.decode()])[0]
        except UnicodeDecodeError:
            tokens = []
        if self.decode(tokens) == data:
            return tokens
        tokens, position = [], 0
        while position < len(data):
            lengths = range(min(self.longest, len(data) - position), 0, -1)
            length = next((length for length in lengths if data[position : position + length] in self._tokens), None)
            if length is None:
                return None
            tokens.append(self._tokens[data[position : position + length]])
            position += length
        return tokens

    def llguidance_tokenizer(self, guidance: Any) -> Any:
        """An llguidance tokenizer with these tokens; cached, because building it can take seconds."""
        if self._llguidance_tokenizer is None:
            self._llguidance_tokenizer = guidance.LLTokenizer(guidance.TokenizerWrapper(_LLGuidanceAdapter(self)))
        return self._llguidance_tokenizer


class _LLGuidanceAdapter:
    """`TokenBytes` with the tokenizer interface of llguidance."""

    bos_token_id = None

    def __init__(self, token_bytes: TokenBytes) -> None:
        self.token_bytes, self.eos_token_id = token_bytes, token_bytes.tokenizer.eos_id
        self.tokens = [data or b"[control]" for data in token_bytes.data]
        self.special_token_ids = [token for token, data in enumerate(token_bytes.data) if not data]

    def __call__(self, text: bytes) -> list[int]:
        return self.token_bytes.encode(text) or []


def _token_bytes(tokenizer: TextTokenizer, guidance: Any) -> list[bytes]:
    """The bytes of each token; b"" for control tokens; [] if they are unknown."""
    backend = tokenizer.backend
    size = max(tokenizer.vocab_size, backend.get_vocab_size())
    control = {number for number, token in backend.get_added_tokens_decoder().items() if token.special}
    text = backend.to_str()
    if (json.loads(text).get("decoder") or {}).get("type") == "Metaspace":
        names = [(backend.id_to_token(token) or "").replace(SPACE, " ").encode() for token in range(size)]
    else:
        try:
            reader = guidance.LLTokenizer(text, n_vocab=size, eos_token=tokenizer.eos_id)
        except ValueError:  # llguidance supports byte-level tokenizers and tokenizers with byte fallback
            return []
        control |= {token for token in range(size) if reader.is_special_token(token)}
        names = [reader.decode_bytes([token]) for token in range(size)]
    control |= {tokenizer.bos_id, tokenizer.eos_id}
    return [b"" if token in control else name for token, name in enumerate(names[: tokenizer.vocab_size])]
