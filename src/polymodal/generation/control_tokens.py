"""Tokenizers that never encode text as control tokens."""

from __future__ import annotations

import json
from typing import Any

from tokenizers import Tokenizer


def control_tokens(tokenizer: Tokenizer, unknown: str | None = None) -> frozenset[int]:
    """The ids of the control tokens, without that of `unknown` words, because a plain word may be encoded as it."""
    unknown = getattr(tokenizer.model, "unk_token", None) or unknown
    added = tokenizer.get_added_tokens_decoder().items()
    return frozenset(number for number, token in added if token.special and token.content != unknown)


def without_control_tokens(tokenizer: Tokenizer, control: frozenset[int]) -> Tokenizer:
    """A copy of the tokenizer, only for encoding, that never gives a token of `control`.

    Vocabularies of SentencePiece contain "</s>" as a word, so that the model itself may give it. In the copy these
    words have names that do not occur in text; all ids stay the same.
    """
    state = json.loads(tokenizer.to_str())
    model: dict[str, Any] = state["model"]
    hidden = {
        token.content: f"\U0010ffff{number}"
        for number, token in tokenizer.get_added_tokens_decoder().items()
        if number in control
    }
    vocabulary = model["vocab"]
    if isinstance(vocabulary, dict):
        model["vocab"] = {hidden.get(word, word): number for word, number in vocabulary.items()}
    else:
        model["vocab"] = [[hidden.get(word, word), score] for word, score in vocabulary]
    if "merges" in model:
        pairs = [(pair, pair.split(" ") if isinstance(pair, str) else pair) for pair in model["merges"]]
        model["merges"] = [pair for pair, both in pairs if not hidden.keys() & {*both, "".join(both)}]
    state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] not in hidden]
    state["post_processor"] = state["padding"] = state["truncation"] = None
    copy = Tokenizer.from_str(json.dumps(state))
    copy.encode_special_tokens = True
    return copy
