"""A text that was written, and what its writer thought of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Ended = Literal["end", "stop", "length"]


@dataclass(frozen=True)
class Written:
    """One text.

    text: as users read it
    tokens: as they were written, those of a stop text included, without the end
    log_probability: the sum of the log-probabilities of its tokens and its end, in nats, as the decoder gave them
        before temperature, penalties and constraints
    ended: by the end token, at a stop text, or because it was as long as allowed
    token_log_probabilities: the parts of that sum: of each token, and of the end where `ended` is "end"
    """

    text: str
    tokens: list[int]
    log_probability: float
    ended: Ended
    token_log_probabilities: Sequence[float] = ()
