"""Beam search against counting every text."""

from __future__ import annotations

import pytest
import torch

from generation.tables import Small, Table, every_text, random_table
from polymodal.generation.config import GenerationConfig
from polymodal.generation.generate import generate

CODEC, STEPS = Small(), 4


@pytest.mark.parametrize("penalty", [0.0, 0.7, 1.0, 2.0])
def test_wide_beams_find_the_best_texts_of_all(penalty: float) -> None:
    table = random_table(5, 4, seed=3)
    writing = GenerationConfig(beams=64, length_penalty=penalty, samples=6)
    found = write(Table(table), 5, writing, CODEC, STEPS)
    for row in range(5):
        texts = sorted(every_text(table, row, CODEC.end, STEPS), key=lambda one: -one[1] / one[2] ** penalty)
        for mine, (tokens, total, _, ended) in zip(found[row], texts[:6], strict=True):
            assert (mine.tokens, mine.ended) == (tokens, ended)
            assert mine.log_probability == pytest.approx(total, abs=1e-4)


def test_beams_stop_early_and_find_what_a_search_to_the_end_finds() -> None:
    """A table whose texts end soon: the search is over long before `steps`, with the same texts as far longer ones."""
    table = random_table(3, 4, seed=1, spread=0.1)
    table[..., CODEC.end] += 4.0
    for penalty in (0.0, 1.0):
        writing = GenerationConfig(beams=4, samples=2, length_penalty=penalty)
        draft = Table(table)
        found = write(draft, 3, writing, CODEC, 40)
        assert len(draft.widths) < 40
        assert draft.widths[-1] <= 12
        longer = write(Table(table), 3, writing, CODEC, 80)
        assert [[one.text for one in row] for row in found] == [[one.text for one in row] for row in longer]


def test_one_beam_is_greedy_and_more_are_never_worse() -> None:
    table = random_table(20, 4, seed=5)
    greedy = write(Table(table), 20, GenerationConfig(), CODEC, STEPS)
    beams = write(Table(table), 20, GenerationConfig(beams=3, length_penalty=0), CODEC, STEPS)
    better = [b.log_probability - g.log_probability for (g,), (b,) in zip(greedy, beams, strict=True)]
    assert max(better) > 0.1
    wide = write(Table(table), 20, GenerationConfig(beams=64, length_penalty=0), CODEC, STEPS)
    assert all(w.log_probability >= g.log_probability - 1e-5 for (g,), (w,) in zip(greedy, wide, strict=True))


def test_a_penalty_of_length_prefers_longer_texts() -> None:
    table = random_table(30, 4, seed=2)
    lengths = [
        sum(len(one.tokens) for (one,) in write(Table(table), 30, GenerationConfig(beams=8, length_penalty=p), CODEC, 6))
        for p in (0.0, 1.0, 3.0)
    ]
    assert lengths[0] < lengths[1] < lengths[2]


def test_rows_do_not_depend_on_those_beside_them() -> None:
    table = random_table(8, 4, seed=9)
    writing = GenerationConfig(beams=3, samples=3)
    together = write(Table(table), 8, writing, CODEC, 12)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    shuffled = write(Table(table[order]), 8, writing, CODEC, 12)
    for row in range(8):
        (alone,) = write(Table(table[row : row + 1]), 1, writing, CODEC, 12)
        assert alone == together[row] == shuffled[order.tolist().index(row)]


def test_scores_by_token_add_up_and_samples_are_in_order() -> None:
    table = random_table(4, 4, seed=11)
    for row in write(Table(table), 4, GenerationConfig(beams=5, samples=5), CODEC, STEPS):
        values = []
        for one in row:
            assert len(one.token_log_probabilities) == len(one.tokens) + (one.ended == "end")
            assert sum(one.token_log_probabilities) == pytest.approx(one.log_probability)
            values.append(one.log_probability / len(one.token_log_probabilities))
        assert values == sorted(values, reverse=True)
        assert len({one.text for one in row}) == 5
