"""The loop that writes: one for every decoder."""

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
    draft: DecodingState,
    rows: int,
    writing: GenerationConfig,
    codec: TextTokenizer,
    steps: int,
    *,
    numbers: Sequence[int] | None = None,
) -> list[list[GenerationOutput]]:
    """Write in each of `rows` rows, at most `steps` tokens, the end included; `writing.samples` texts for each row
    (fewer from beams that are held to fewer texts).

    numbers: the number of each row in its table, on which its draws depend (and not on the rows beside it)

    Raises:
        RecipeError: a constraint is not valid, or no text of so many tokens meets it; nothing was written.
        MissingExtraError: the constraint needs an optional package.
        TrainingError: the decoder gave no finite numbers.
    """
    constraint = build_constraint(writing, codec)
    if rows == 0:
        return []
    found: list[list[tuple[list[int], list[float], FinishReason]]]
    if writing.beams > 1:
        best = BeamSearch(draft, rows, writing, codec, steps, constraint).search()
        found = [[(one.tokens, one.scores, one.ended) for one in row] for row in best]
    else:
        lines = SampleSearch(draft, range(rows) if numbers is None else numbers, writing, codec, steps, constraint)
        for _ in lines.write():
            pass
        each, samples = lines.found(), writing.samples
        found = [each[row * samples : (row + 1) * samples] for row in range(rows)]
    return build_outputs(found, writing, codec)
