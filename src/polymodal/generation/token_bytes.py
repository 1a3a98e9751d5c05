"""The bytes that each token of a codec stands for, as llguidance reads them."""

from __future__ import annotations

import json
from typing import Any

from polymodal.generation.tokenizer import TextTokenizer

SPACE = "▁"  # stands for a blank in the pieces of SentencePiece


class TokenBytes:
    """A codec's tokens as bytes.

    data: by token; b"" for control tokens and numbers without a token. Empty where the tokenizer's pieces do not say
        which bytes they stand for
    longest: the most bytes of a token
    spaced: whether texts begin with a blank that is not theirs
    """

    def __init__(self, codec: TextTokenizer, guidance: Any) -> None:
        self.codec = codec
        self._tokenizer: Any = None
        self.data = _data(codec, guidance)
        self.longest = max(map(len, self.data), default=1)
        self._tokens = {data: token for token, data in reversed(list(enumerate(self.data))) if data}
        self.spaced = bool(self.data) and self.joined(codec.encode(["x"])[0]).startswith(b" ")

    def joined(self, tokens: list[int]) -> bytes:
        """The bytes of some tokens."""
        return b"".join(self.data[token] for token in tokens)

    def cut(self, data: bytes) -> list[int] | None:
        """Tokens for these bytes: the codec's own where they say exactly that, else the longest first from the left;
        None where there are none."""
        try:
            own = self.codec.encode([data.decode()])[0]
        except UnicodeDecodeError:
            own = []
        if self.joined(own) == data:
            return own
        found, at = [], 0
        while at < len(data):
            lengths = range(min(self.longest, len(data) - at), 0, -1)
            length = next((length for length in lengths if data[at : at + length] in self._tokens), None)
            if length is None:
                return None
            found.append(self._tokens[data[at : at + length]])
            at += length
        return found

    def tokenizer(self, guidance: Any) -> Any:
        """A tokenizer of llguidance with these tokens; made once, as that takes seconds for a large vocabulary."""
        if self._tokenizer is None:
            self._tokenizer = guidance.LLTokenizer(guidance.TokenizerWrapper(_Wrapped(self)))
        return self._tokenizer


class _Wrapped:
    """Pieces as llguidance reads a tokenizer."""

    bos_token_id = None

    def __init__(self, pieces: TokenBytes) -> None:
        self.pieces, self.eos_token_id = pieces, pieces.codec.end
        self.tokens = [data or b"[control]" for data in pieces.data]
        self.special_token_ids = [token for token, data in enumerate(pieces.data) if not data]

    def __call__(self, text: bytes) -> list[int]:
        return self.pieces.cut(text) or []


def _data(codec: TextTokenizer, guidance: Any) -> list[bytes]:
    """The bytes of each token; b"" for control tokens; [] where they are not known."""
    tokenizer = codec.tokenizer
    size = max(codec.vocabulary, tokenizer.get_vocab_size())
    control = {number for number, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    text = tokenizer.to_str()
    if (json.loads(text).get("decoder") or {}).get("type") == "Metaspace":
        names = [(tokenizer.id_to_token(token) or "").replace(SPACE, " ").encode() for token in range(size)]
    else:
        try:
            reader = guidance.LLTokenizer(text, n_vocab=size, eos_token=codec.end)
        except ValueError:  # it reads byte-level tokens and those that fall back to bytes
            return []
        control |= {token for token in range(size) if reader.is_special_token(token)}
        names = [reader.decode_bytes([token]) for token in range(size)]
    control |= {codec.begin, codec.end}
    return [b"" if token in control else name for token, name in enumerate(names[: codec.vocabulary])]
