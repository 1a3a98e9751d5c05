"""Streaming generation: the text of one row in chunks, as it is generated."""

from __future__ import annotations

from collections.abc import Generator

from polymodal.core.errors import RecipeError
from polymodal.generation.config import GenerationConfig
from polymodal.generation.constraints.factory import build_constraint
from polymodal.generation.output import GenerationOutput, build_outputs
from polymodal.generation.sampling_search import SampleSearch
from polymodal.generation.stop_strings import StopStrings
from polymodal.generation.tokenizer import TextTokenizer
from polymodal.nn.decoders.text_decoder import DecodingState

#: The character that incomplete UTF-8 is decoded to.
REPLACEMENT = "\ufffd"


def stream(
    state: DecodingState,
    config: GenerationConfig,
    tokenizer: TextTokenizer,
    max_new_tokens: int,
    *,
    row_number: int = 0,
) -> Generator[str, None, GenerationOutput]:
    """Yield the text of one row in chunks; concatenated, they equal the text that `generate` returns. The output with
    its tokens is the value that the generator returns.

    Incomplete characters, trailing spaces and possible beginnings of a stop string are held back until they are
    resolved.

    row_number: number of the row in its table

    Raises:
        RecipeError: the options ask for several sequences or for beam search, which returns its text only at the end;
            or as `generate`.
    """
    if config.num_beams > 1 or config.num_return_sequences > 1:
        name = "num_beams" if config.num_beams > 1 else "num_return_sequences"
        problem = "streaming supports one sequence without beam search"
        raise RecipeError(name, f"{problem}; set num_beams and num_return_sequences to 1, or do not stream")
    constraint = build_constraint(config, tokenizer)
    search = SampleSearch(state, [row_number], config, tokenizer, max_new_tokens, constraint)
    return _chunks(search, config, tokenizer)


def _chunks(
    search: SampleSearch, config: GenerationConfig, tokenizer: TextTokenizer
) -> Generator[str, None, GenerationOutput]:
    stops, detokenizer, sent = StopStrings(config.stop_strings, tokenizer), IncrementalDetokenizer(tokenizer), 0
    for _ in search.generate():
        if search.finish_reasons[0] == "length":
            text = detokenizer.append(int(search.tokens[0, search.lengths[0] - 1])).lstrip()
            final = text[: len(text) - stops.partial_length(text)].rstrip()
            if len(final) > sent:
                yield final[sent:]
                sent = len(final)
    ((output,),) = build_outputs([search.results()], config, tokenizer)
    if len(output.text) > sent:
        yield output.text[sent:]
    return output


class IncrementalDetokenizer:
    """Decodes tokens that arrive one at a time; only the last few tokens are decoded again."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self.backend = tokenizer.backend
        self.text = ""
        self._tokens: list[int] = []  # the last tokens, starting with those of the previous chunk
        self._decoded = 0  # how many of these tokens are already in `text`

    def append(self, token: int) -> str:
        """The text after one more token, without a trailing character whose bytes are incomplete."""
        self._tokens.append(token)
        old, new = (self.backend.decode(self._tokens[:n]) for n in (self._decoded, len(self._tokens)))
        if len(new) > len(old) and not new.endswith(REPLACEMENT):
            self.text += new[len(old) :]
            self._tokens, self._decoded = self._tokens[self._decoded :], len(self._tokens) - self._decoded
        return self.text
