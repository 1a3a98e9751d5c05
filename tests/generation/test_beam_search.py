"""Beam search against counting every text."""

from __future__ import annotations

import pytest
import torch

from generation.table_state import Small, Table, every_text, random_table
from polymodal.generation.config import GenerationConfig
from polymodal.generation.generate import generate

TOKENIZER, STEPS = Small(), 4


@pytest.mark.parametrize("penalty", [0.0, 0.7, 1.0, 2.0])
def test_wide_beams_find_the_best_texts_of_all(penalty: float) -> None:
    table = random_table(5, 4, seed=3)
    config = GenerationConfig(num_beams=64, length_penalty=penalty, num_return_sequences=6)
    found = generate(Table(table), 5, config, TOKENIZER, STEPS)
    for row in range(5):
        texts = sorted(every_text(table, row, TOKENIZER.eos_id, STEPS), key=lambda one: -one[1] / one[2] ** penalty)
        for mine, (tokens, total, _, ended) in zip(found[row], texts[:6], strict=True):
            assert (mine.tokens, mine.finish_reason) == (tokens, ended)
            assert mine.log_probability == pytest.approx(total, abs=1e-4)


def test_beams_stop_early_and_find_what_a_search_to_the_end_finds() -> None:
    """A table whose texts end soon: the search is over long before `steps`, with the same texts as far longer ones."""
    table = random_table(3, 4, seed=1, spread=0.1)
    table[..., TOKENIZER.eos_id] += 4.0
    for penalty in (0.0, 1.0):
        config = GenerationConfig(num_beams=4, num_return_sequences=2, length_penalty=penalty)
        state = Table(table)
        found = generate(state, 3, config, TOKENIZER, 40)
        assert len(state.widths) < 40
        assert state.widths[-1] <= 12
        longer = generate(Table(table), 3, config, TOKENIZER, 80)
        assert [[one.text for one in row] for row in found] == [[one.text for one in row] for row in longer]


def test_one_beam_is_greedy_and_more_are_never_worse() -> None:
    table = random_table(20, 4, seed=5)
    greedy = generate(Table(table), 20, GenerationConfig(), TOKENIZER, STEPS)
    beams = generate(Table(table), 20, GenerationConfig(num_beams=3, length_penalty=0), TOKENIZER, STEPS)
    better = [b.log_probability - g.log_probability for (g,), (b,) in zip(greedy, beams, strict=True)]
    assert max(better) > 0.1
    wide = generate(Table(table), 20, GenerationConfig(num_beams=64, length_penalty=0), TOKENIZER, STEPS)
    assert all(w.log_probability >= g.log_probability - 1e-5 for (g,), (w,) in zip(greedy, wide, strict=True))


def test_a_penalty_of_length_prefers_longer_texts() -> None:
    table = random_table(30, 4, seed=2)
    lengths = [
        sum(
            len(one.tokens)
            for (one,) in generate(Table(table), 30, GenerationConfig(num_beams=8, length_penalty=p), TOKENIZER, 6)
        )
        for p in (0.0, 1.0, 3.0)
    ]
    assert lengths[0] < lengths[1] < lengths[2]


def test_rows_do_not_depend_on_those_beside_them() -> None:
    table = random_table(8, 4, seed=9)
    config = GenerationConfig(num_beams=3, num_return_sequences=3)
    together = generate(Table(table), 8, config, TOKENIZER, 12)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    shuffled = generate(Table(table[order]), 8, config, TOKENIZER, 12)
    for row in range(8):
        (alone,) = generate(Table(table[row : row + 1]), 1, config, TOKENIZER, 12)
        assert alone == together[row] == shuffled[order.tolist().index(row)]


def test_scores_by_token_add_up_and_samples_are_in_order() -> None:
    table = random_table(4, 4, seed=11)
    for row in generate(Table(table), 4, GenerationConfig(num_beams=5, num_return_sequences=5), TOKENIZER, STEPS):
        values = []
        for one in row:
            assert len(one.token_log_probabilities) == len(one.tokens) + (one.finish_reason == "end")
            assert sum(one.token_log_probabilities) == pytest.approx(one.log_probability)
            values.append(one.log_probability / len(one.token_log_probabilities))
        assert values == sorted(values, reverse=True)
        assert len({one.text for one in row}) == 5
