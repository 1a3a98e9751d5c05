"""The loop that writes: one for every decoder."""

from __future__ import annotations

from collections.abc import Sequence

from polymodal.generation.beam_search import Beams
from polymodal.generation.config import Writing
from polymodal.generation.constraints.factory import constraint_of
from polymodal.generation.output import Ended, Written, as_written
from polymodal.generation.sampling_search import Lines
from polymodal.generation.tokenizer import Codec
from polymodal.nn.decoders.writer import Draft


def write(
    draft: Draft,
    rows: int,
    writing: Writing,
    codec: Codec,
    steps: int,
    *,
    numbers: Sequence[int] | None = None,
) -> list[list[Written]]:
    """Write in each of `rows` rows, at most `steps` tokens, the end included; `writing.samples` texts for each row
    (fewer from beams that are held to fewer texts).

    numbers: the number of each row in its table, on which its draws depend (and not on the rows beside it)

    Raises:
        RecipeError: a constraint is not valid, or no text of so many tokens meets it; nothing was written.
        MissingExtraError: the constraint needs an optional package.
        TrainingError: the decoder gave no finite numbers.
    """
    constraint = constraint_of(writing, codec)
    if rows == 0:
        return []
    found: list[list[tuple[list[int], list[float], Ended]]]
    if writing.beams > 1:
        best = Beams(draft, rows, writing, codec, steps, constraint).search()
        found = [[(one.tokens, one.scores, one.ended) for one in row] for row in best]
    else:
        lines = Lines(draft, range(rows) if numbers is None else numbers, writing, codec, steps, constraint)
        for _ in lines.write():
            pass
        each, samples = lines.found(), writing.samples
        found = [each[row * samples : (row + 1) * samples] for row in range(rows)]
    return as_written(found, writing, codec)
