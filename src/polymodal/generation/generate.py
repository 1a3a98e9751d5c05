"""The generation loop for every text decoder."""

from __future__ import annotations

from collections.abc import Sequence

from polymodal.generation.beam_search import BeamSearch
from polymodal.generation.config import GenerationConfig
from polymodal.generation.constraints.factory import build_constraint
from polymodal.generation.output import FinishReason, GenerationOutput, build_outputs
from polymodal.generation.sampling_search import SampleSearch
from polymodal.generation.tokenizer import TextTokenizer
from polymodal.nn.decoders.text_decoder import DecodingState


def generate(
    state: DecodingState,
    rows: int,
    config: GenerationConfig,
    tokenizer: TextTokenizer,
    max_new_tokens: int,
    *,
    row_numbers: Sequence[int] | None = None,
) -> list[list[GenerationOutput]]:
    """Generate at most `max_new_tokens` tokens, including the end token, in each of `rows` rows.

    Each row gets `config.num_return_sequences` outputs (fewer if beam search is constrained to fewer texts).

    row_numbers: number of each row in its table. The random draws of a row depend on it, and not on the other rows

    Raises:
        RecipeError: a constraint is invalid, or no text of at most `max_new_tokens` tokens satisfies it.
        MissingExtraError: the constraint needs an optional package.
        TrainingError: the logits of the decoder are not finite.

    Example:
        A decoder that predicts a fixed text:

        >>> import torch
        >>> tokenizer = TextTokenizer.train(["a b c"], 262, merge=False)
        >>> ids = [*tokenizer.encode(["a b"])[0], tokenizer.eos_id]
        >>> class Toy(DecodingState):
        ...     def step(self, tokens):
        ...         return torch.eye(tokenizer.vocab_size)[[ids.pop(0)]]
        ...     def reorder(self, rows):
        ...         pass
        >>> ((output,),) = generate(Toy(), 1, GenerationConfig(), tokenizer, 8)
        >>> output.text, output.finish_reason
        ('a b', 'end')
    """
    constraint = build_constraint(config, tokenizer)
    if rows == 0:
        return []
    results: list[list[tuple[list[int], list[float], FinishReason]]]
    if config.num_beams > 1:
        best = BeamSearch(state, rows, config, tokenizer, max_new_tokens, constraint).search()
        results = [[(text.tokens, text.scores, text.finish_reason) for text in row] for row in best]
    else:
        numbers = range(rows) if row_numbers is None else row_numbers
        search = SampleSearch(state, numbers, config, tokenizer, max_new_tokens, constraint)
        for _ in search.generate():
            pass
        flat, samples = search.results(), config.num_return_sequences
        results = [flat[row * samples : (row + 1) * samples] for row in range(rows)]
    return build_outputs(results, config, tokenizer)
