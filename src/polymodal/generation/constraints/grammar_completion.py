"""Few bytes that finish a text under a grammar."""

from __future__ import annotations

import string
from collections.abc import Iterator
from typing import Any

import numpy as np

#: States beside its own path that one descent visits before it gives up: few at first, then many.
MOST_STATES = (16, 500)
#: Bytes are tried in this order: signs that close something, other signs, digits, letters, and all the rest.
FIRST = '"}])' + string.punctuation.replace("\\", "") + string.digits + string.ascii_letters
ORDER = list(dict.fromkeys([*FIRST.encode(), *range(256)]))
END = 256


class ByteTokenizer:
    """Tokens that are single bytes, as llguidance reads a tokenizer; 256 is the end."""

    eos_token_id = END
    bos_token_id = None
    tokens = [*(bytes([value]) for value in range(256)), b"[end]"]
    special_token_ids = [END]

    def __call__(self, text: bytes) -> list[int]:
        return list(text)


def finish(matcher: Any, most: int) -> bytes | None:
    """At most `most` bytes after which a matcher over bytes accepts; None where none are found.

    Depth-first search, with a limit on the bytes that is doubled from 1 on: what is found is always right, and rarely
    twice as long as the shortest. Of bytes after which the same bytes may follow, one is tried.
    """
    limits = [min(1 << power, most) for power in range(max(1, most).bit_length() + 1)]
    for states in MOST_STATES:
        for limit in dict.fromkeys(limits):
            found = _descend(matcher.deep_copy(), limit, states)
            if found is not None:
                return found
    return None


def _descend(matcher: Any, most: int, states: int) -> bytes | None:
    written: list[bytes] = []
    open_: list[Iterator[bytes]] = []
    length = 0
    for _ in range(states + most):
        if matcher.is_accepting():
            return b"".join(written)
        open_.append(_steps(matcher, most - length))
        while (step := next(open_[-1], None)) is None:
            open_.pop()
            if not open_:
                return None
            last = written.pop()
            matcher.rollback(len(last))
            length -= len(last)
        written.append(step)
        length += len(step)
    return None


def _steps(matcher: Any, most: int) -> Iterator[bytes]:
    """Bytes that may follow, appended to the matcher before each is told; who asks for the next takes them back."""
    forced = matcher.compute_ff_bytes()
    if forced:
        if len(forced) <= most and matcher.try_consume_tokens(list(forced)) == len(forced):
            yield forced
        return
    bits = np.unpackbits(np.frombuffer(matcher.compute_bitmask(), np.uint8), bitorder="little")
    seen = set()
    for value in ORDER if most else []:
        if bits[value] and matcher.try_consume_tokens([value]):
            after = matcher.is_accepting(), matcher.compute_bitmask()
            if after in seen:
                matcher.rollback(1)
            else:
                seen.add(after)
                yield bytes([value])
