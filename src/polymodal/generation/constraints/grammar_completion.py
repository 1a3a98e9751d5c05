"""Search for a short completion of a text under a grammar, over bytes."""

from __future__ import annotations

import string
from collections.abc import Iterator
from typing import Any

import numpy as np

#: Number of states outside of its own path that a search visits before it stops: few in the first round, then many.
MAX_STATES = (16, 500)
#: Order in which bytes are tried: closing characters, other punctuation, digits, letters, then all others.
FIRST = '"}])' + string.punctuation.replace("\\", "") + string.digits + string.ascii_letters
ORDER = list(dict.fromkeys([*FIRST.encode(), *range(256)]))
END = 256


class ByteTokenizer:
    """A tokenizer with one token per byte, with the tokenizer interface of llguidance; token 256 is the end token."""

    eos_token_id = END
    bos_token_id = None
    tokens = [*(bytes([value]) for value in range(256)), b"[end]"]
    special_token_ids = [END]

    def __call__(self, text: bytes) -> list[int]:
        return list(text)


def find_completion(matcher: Any, max_bytes: int) -> bytes | None:
    """At most `max_bytes` bytes after which a matcher over bytes accepts; None if none are found.

    Depth-first search with an iteratively doubled length limit, starting at 1. A result is always valid and rarely more
    than twice as long as the shortest completion. Of bytes that lead to the same state, only one is tried.
    """
    limits = [min(1 << power, max_bytes) for power in range(max(1, max_bytes).bit_length() + 1)]
    for states in MAX_STATES:
        for limit in dict.fromkeys(limits):
            completion = _depth_first(matcher.deep_copy(), limit, states)
            if completion is not None:
                return completion
    return None


def _depth_first(matcher: Any, max_bytes: int, states: int) -> bytes | None:
    path: list[bytes] = []
    branches: list[Iterator[bytes]] = []
    length = 0
    for _ in range(states + max_bytes):
        if matcher.is_accepting():
            return b"".join(path)
        branches.append(_steps(matcher, max_bytes - length))
        while (step := next(branches[-1], None)) is None:
            branches.pop()
            if not branches:
                return None
            last = path.pop()
            matcher.rollback(len(last))
            length -= len(last)
        path.append(step)
        length += len(step)
    return None


def _steps(matcher: Any, max_bytes: int) -> Iterator[bytes]:
    """Bytes that may follow. They are consumed by the matcher before they are yielded; the caller rolls them back."""
    forced = matcher.compute_ff_bytes()
    if forced:
        if len(forced) <= max_bytes and matcher.try_consume_tokens(list(forced)) == len(forced):
            yield forced
        return
    bits = np.unpackbits(np.frombuffer(matcher.compute_bitmask(), np.uint8), bitorder="little")
    seen = set()
    for value in ORDER if max_bytes else []:
        if bits[value] and matcher.try_consume_tokens([value]):
            state = matcher.is_accepting(), matcher.compute_bitmask()
            if state in seen:
                matcher.rollback(1)
            else:
                seen.add(state)
                yield bytes([value])
