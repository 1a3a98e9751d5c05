"""Texts at which writing ends."""

from __future__ import annotations

from collections.abc import Sequence

from polymodal.generation.tokenizer import TextTokenizer

#: Tokens that are read in front of those that may hold a stop: decoders treat the first ones as the start of a text.
BEFORE = 4


class StopStrings:
    """Looks for stops in the text of tokens, whatever tokens they are spread over.

    The blank that many tokenizers put in front of a text is not part of it.
    """

    def __init__(self, stops: Sequence[str], codec: TextTokenizer) -> None:
        self.stops, self.tokenizer = list(stops), codec.tokenizer
        self.window = max((len(stop.encode()) for stop in stops), default=0) + BEFORE

    def reached(self, tokens: Sequence[Sequence[int]]) -> list[bool]:
        """Whether each text has come to a stop with its last token."""
        if not self.stops:
            return [False] * len(tokens)
        ends = self.tokenizer.decode_batch([list(one[-self.window :]) for one in tokens])
        return [
            any(stop in end for stop in self.stops) and self.cut(one) is not None
            for one, end in zip(tokens, ends, strict=True)
        ]

    def cut(self, tokens: Sequence[int]) -> str | None:
        """The text before the first stop; None where there is none."""
        text = self.tokenizer.decode(list(tokens)).removeprefix(" ")
        found = [at for stop in self.stops if (at := text.find(stop)) >= 0]
        return text[: min(found)].strip() if found else None

    def unsure(self, text: str) -> int:
        """How many characters at the end of `text` may be the beginning of a stop."""
        longest = max((len(stop) for stop in self.stops), default=1) - 1
        lengths = range(min(longest, len(text)), 0, -1)
        return next((n for n in lengths if any(stop.startswith(text[-n:]) for stop in self.stops)), 0)
