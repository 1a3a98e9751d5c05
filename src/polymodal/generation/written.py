"""A text that was written, and what its writer thought of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Written:
    """One text.

    text: as users read it
    tokens: its tokens, without the end
    log_probability: the sum of the log-probabilities of its tokens and its end, in nats, as the decoder gave them
        before temperature, penalties and constraints
    ended: by the end token, at a stop text, or because it was as long as allowed
    """

    text: str
    tokens: list[int]
    log_probability: float
    ended: Literal["end", "stop", "length"]
