"""A text piece by piece, while it is written."""

from __future__ import annotations

from collections.abc import Iterator

from polymodal.core.errors import RecipeError
from polymodal.generation.config import GenerationConfig
from polymodal.generation.constraints.factory import build_constraint
from polymodal.generation.output import build_outputs
from polymodal.generation.sampling_search import SampleSearch
from polymodal.generation.stop_strings import StopStrings
from polymodal.generation.tokenizer import TextTokenizer
from polymodal.nn.decoders.text_decoder import DecodingState

#: What incomplete UTF-8 is decoded to.
REPLACEMENT = "\ufffd"


def stream(draft: DecodingState, writing: GenerationConfig, codec: TextTokenizer, steps: int, *, number: int = 0) -> Iterator[str]:
    """The pieces of one row's text, as soon as they are sure; together they are the text that `write` gives.

    Characters that are not complete, blanks that may be the last, and what may be the beginning of a stop text are held
    back until more is known.

    number: of the row in its table

    Raises:
        RecipeError: several texts are asked for, or beams, whose text is known only when all is written; or as `write`.
    """
    if writing.beams > 1 or writing.samples > 1:
        name = "beams" if writing.beams > 1 else "samples"
        raise RecipeError(name, "one text is streamed, token by token; leave beams and samples at 1, or do not stream")
    lines = SampleSearch(draft, [number], writing, codec, steps, build_constraint(writing, codec))
    return _pieces(lines, writing, codec)


def _pieces(lines: SampleSearch, writing: GenerationConfig, codec: TextTokenizer) -> Iterator[str]:
    stops, decoded, sent = StopStrings(writing.stop, codec), IncrementalDetokenizer(codec), 0
    for _ in lines.write():
        if lines.ended[0] == "length":
            text = decoded.with_token(int(lines.tokens[0, lines.lengths[0] - 1])).lstrip()
            sure = text[: len(text) - stops.unsure(text)].rstrip()
            if len(sure) > sent:
                yield sure[sent:]
                sent = len(sure)
    ((written,),) = build_outputs([lines.found()], writing, codec)
    if len(written.text) > sent:
        yield written.text[sent:]


class IncrementalDetokenizer:
    """The text of tokens that come one by one: only the last few are decoded again."""

    def __init__(self, codec: TextTokenizer) -> None:
        self.tokenizer = codec.tokenizer
        self.text = ""
        self._tokens: list[int] = []  # the last ones, from the piece before on
        self._told = 0  # how many of them are in `text`

    def with_token(self, token: int) -> str:
        """The text with one more token, without a character whose bytes are not complete."""
        self._tokens.append(token)
        told, new = (self.tokenizer.decode(self._tokens[:n]) for n in (self._told, len(self._tokens)))
        if len(new) > len(told) and not new.endswith(REPLACEMENT):
            self.text += new[len(told) :]
            self._tokens, self._told = self._tokens[self._told :], len(self._tokens) - self._told
        return self.text
