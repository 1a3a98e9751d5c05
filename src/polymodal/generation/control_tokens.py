"""Tokenizers that cannot give control tokens, whatever a text says."""

from __future__ import annotations

import json
from typing import Any

from tokenizers import Tokenizer


def control_tokens(tokenizer: Tokenizer, unknown: str | None = None) -> frozenset[int]:
    """The numbers of the control tokens; that of `unknown` words is none, since a plain word may give it."""
    unknown = getattr(tokenizer.model, "unk_token", None) or unknown
    added = tokenizer.get_added_tokens_decoder().items()
    return frozenset(number for number, token in added if token.special and token.content != unknown)


def without_control_tokens(tokenizer: Tokenizer, control: frozenset[int]) -> Tokenizer:
    """The same tokenizer, for encoding alone, in which no piece of text spells a token of `control`.

    Vocabularies made by SentencePiece hold "</s>" among their words, so that the model of words itself gives it. Here
    these words have names that no text has; all numbers stay what they are.
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
    found = Tokenizer.from_str(json.dumps(state))
    found.encode_special_tokens = True
    return found
