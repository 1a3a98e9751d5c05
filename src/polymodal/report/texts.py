"""Written texts in the list of examples."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from polymodal.core.formatting import cut
from polymodal.tasks.conversation import read_history


def wrongness(distribution: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which rows' text is none of its references, `[rows]` bool, and how far it is from the nearest, `[rows]`: one
    minus the share of words that they have in common (F1)."""
    wrong = np.array([text not in references for text, references in zip(distribution, truth, strict=True)], dtype=bool)
    far = [
        1 - max((_overlap(text or "", reference) for reference in references), default=0.0)
        for text, references in zip(distribution, truth, strict=True)
    ]
    return wrong, np.array(far)


def truth_text(references: tuple[str, ...]) -> str:
    return cut(" / ".join(references))


def said(cell: Any) -> str:
    """A cell of a prompt; of a history, who said what."""
    try:
        turns = read_history(cell, last="assistant")
    except ValueError:
        return cut(cell)
    if not turns:
        return "nothing was said" if isinstance(cell, list) else ""
    return cut(" · ".join(f"{turn.role}: {turn.content}" for turn in turns), 400)


def answer_text(answer: Any) -> str:
    return "no answer" if answer is None else cut(answer) or "an empty text"


def note(answer: Any, references: tuple[str, ...]) -> str:
    """How many words the answer shares with the nearest reference."""
    if answer in references:
        return "as it should be"
    share = max((_overlap(answer or "", reference) for reference in references), default=0.0)
    return f"{share:.0%} of the words in common (F1)"


def _overlap(text: str, reference: str) -> float:
    said, wanted = Counter(text.split()), Counter(reference.split())
    common = (said & wanted).total()
    return 2 * common / max(1, said.total() + wanted.total())
