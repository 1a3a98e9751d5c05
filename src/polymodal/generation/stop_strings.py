"""Stop strings: strings that end generation."""

from __future__ import annotations

from collections.abc import Sequence

from polymodal.generation.tokenizer import TextTokenizer

#: Number of extra tokens decoded before a possible stop string: some tokenizers decode the first tokens differently.
CONTEXT_TOKENS = 4


class StopStrings:
    """Finds stop strings in the decoded text, however they are split into tokens.

    The space that many tokenizers prepend to a text is ignored.
    """

    def __init__(self, stops: Sequence[str], tokenizer: TextTokenizer) -> None:
        self.stops, self.backend = list(stops), tokenizer.backend
        self.window = max((len(stop.encode()) for stop in stops), default=0) + CONTEXT_TOKENS

    def reached(self, tokens: Sequence[Sequence[int]]) -> list[bool]:
        """Whether the last token of each sequence completes a stop string."""
        if not self.stops:
            return [False] * len(tokens)
        ends = self.backend.decode_batch([list(ids[-self.window :]) for ids in tokens])
        return [
            any(stop in end for stop in self.stops) and self.truncate(ids) is not None
            for ids, end in zip(tokens, ends, strict=True)
        ]

    def truncate(self, tokens: Sequence[int]) -> str | None:
        """The text before the first stop string; None if there is none."""
        text = self.backend.decode(list(tokens)).removeprefix(" ")
        positions = [position for stop in self.stops if (position := text.find(stop)) >= 0]
        return text[: min(positions)].strip() if positions else None

    def partial_length(self, text: str) -> int:
        """Number of characters at the end of `text` that may be the beginning of a stop string."""
        longest = max((len(stop) for stop in self.stops), default=1) - 1
        lengths = range(min(longest, len(text)), 0, -1)
        return next((n for n in lengths if any(stop.startswith(text[-n:]) for stop in self.stops)), 0)
