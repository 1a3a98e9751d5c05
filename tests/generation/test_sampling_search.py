"""Greedy choice and draws, by tables whose probabilities are known."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch

from generation.table_state import TOKENIZER, Small, Table, every_text, random_table
from polymodal.core.errors import TrainingError
from polymodal.generation.config import GenerationConfig
from polymodal.generation.generate import generate
from polymodal.generation.sampling_distribution import apply_repetition_penalty, probabilities

SMALL = Small()


def chi_square(counts: Counter[str], expected: dict[str, float]) -> tuple[float, int]:
    total = sum(counts.values())
    assert set(counts) <= set(expected)
    return sum((counts[key] - total * p) ** 2 / (total * p) for key, p in expected.items()), len(expected) - 1


def test_greedy_takes_the_likeliest_token_each_time() -> None:
    table = random_table(10, 4, seed=0)
    said = table.log_softmax(-1)
    for row, (one,) in enumerate(generate(Table(table), 10, GenerationConfig(), SMALL, 5)):
        path, total = [4, 4], 0.0
        while len(path) < 7:
            value, token = said[row, path[-2], path[-1]].max(0)
            total += float(value)
            if int(token) == SMALL.eos_id:
                break
            path.append(int(token))
        assert one.tokens == path[2:]
        assert one.log_probability == pytest.approx(total, abs=1e-5)
        assert one.finish_reason == ("length" if len(path) == 7 else "end")


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_have_the_probabilities_of_the_table(temperature: float) -> None:
    """Chi-square of 4,000 whole texts of at most three tokens; the bound is that of one mistake in ten thousand."""
    table = random_table(1, 4, seed=4, spread=1.0)
    found = generate(
        Table(table.expand(4, -1, -1, -1)),
        4,
        GenerationConfig(temperature=temperature, num_return_sequences=1000),
        SMALL,
        3,
    )
    counts = Counter(str(one.tokens) for row in found for one in row)
    scaled = table / temperature
    expected = {str(tokens): math.exp(total) for tokens, total, _, _ in every_text(scaled, 0, SMALL.eos_id, 3)}
    assert sum(expected.values()) == pytest.approx(1)
    rare = [key for key, p in expected.items() if p < 0.002]
    for key in rare[1:]:  # counted together
        expected[rare[0]] += expected.pop(key)
        counts[rare[0]] += counts.pop(key, 0)
    value, freedom = chi_square(counts, expected)
    assert value < freedom + 4 * math.sqrt(2 * freedom) + 8
    for one in found[0][:20]:  # log-probabilities are those of the table, whatever the temperature
        plain = {str(tokens): total for tokens, total, _, _ in every_text(table, 0, SMALL.eos_id, 3)}
        assert one.log_probability == pytest.approx(plain[str(one.tokens)], abs=1e-4)


def test_what_may_be_drawn_is_exact() -> None:
    share = torch.tensor([[0.4, 0.25, 0.2, 0.1, 0.05]])
    logits = share.log()

    def kept(**options: float) -> list[int]:
        found = probabilities(logits, GenerationConfig(temperature=options.pop("temperature", 1.0), **options))  # type: ignore[arg-type]
        assert float(found.sum()) == pytest.approx(1)
        support = found[0].nonzero().squeeze(1)
        ratio = found[0, support] / share[0, support]
        if options and "temperature" not in options:
            assert torch.allclose(ratio, ratio[0].expand_as(ratio), rtol=1e-4)  # what stays keeps its proportions
        return support.tolist()

    assert kept() == [0, 1, 2, 3, 4]
    assert kept(top_k=1) == [0]
    assert kept(top_k=3) == [0, 1, 2]
    assert kept(top_k=9) == [0, 1, 2, 3, 4]
    assert kept(top_p=0.3) == [0]
    assert kept(top_p=0.45) == [0, 1]
    assert kept(top_p=0.64) == [0, 1]
    assert kept(top_p=0.66) == [0, 1, 2]
    assert kept(top_p=1.0) == [0, 1, 2, 3, 4]
    assert kept(min_p=1.0) == [0]
    assert kept(min_p=0.49) == [0, 1, 2]
    assert kept(min_p=0.24) == [0, 1, 2, 3]
    assert kept(top_k=3, top_p=0.7) == [0, 1]  # of what top_k left, 0.47 + 0.29
    assert kept(top_k=4, min_p=0.49) == [0, 1, 2]


def test_top_p_over_many_tokens_is_the_fewest_that_reach_it() -> None:
    logits = torch.randn(3, 5000, generator=torch.Generator().manual_seed(0)) * torch.tensor([[0.1], [2.0], [8.0]])
    share = logits.softmax(-1)
    for p in (0.2, 0.9, 0.999):
        found = probabilities(logits, GenerationConfig(temperature=1.0, top_p=p))
        for row in range(3):
            ordered = share[row].sort(descending=True).values
            needed = int((ordered.double().cumsum(0) < p).sum()) + 1
            assert abs(int((found[row] > 0).sum()) - needed) <= 1  # sums of so many numbers round
            assert float(found[row].sum()) == pytest.approx(1, abs=1e-4)
            assert float(share[row][found[row] > 0].sum()) >= p - 1e-4


def test_a_low_temperature_is_greedy_and_nothing_overflows() -> None:
    table = random_table(6, 4, seed=8, spread=50.0)
    greedy = generate(Table(table), 6, GenerationConfig(), SMALL, 6)
    assert generate(Table(table), 6, GenerationConfig(temperature=1e-9), SMALL, 6) == greedy
    assert generate(Table(table), 6, GenerationConfig(temperature=5, top_k=1), SMALL, 6) == greedy


def test_repetition_is_penalized_by_the_formula() -> None:
    logits = torch.tensor([[2.0, -1.0, 0.5, 3.0], [1.0, 1.0, 1.0, 1.0]])
    written = torch.tensor([[0, 1, 0], [3, 3, 3]])
    expected = torch.tensor([[1.0, -2.0, 0.5, 3.0], [1.0, 1.0, 1.0, 0.5]])
    assert torch.equal(apply_repetition_penalty(logits, written, 2.0), expected)
    table = torch.zeros(1, 5, 5, 4)
    table[..., 1], table[..., 2], table[..., 3], table[..., 0] = 3.0, 2.9, 2.8, 2.0
    (plain,), (varied,) = (
        generate(Table(table), 1, GenerationConfig(repetition_penalty=p), SMALL, 4)[0] for p in (1.0, 1.1)
    )
    assert plain.text == "aaaa"
    assert varied.text == "abca"
    said = table.log_softmax(-1)[0, 0, 0]
    assert varied.log_probability == pytest.approx(float(said[1] + said[2] + said[3] + said[1]), abs=1e-5)


def test_samples_depend_only_on_seed_row_and_sample() -> None:
    table = random_table(1, 4, seed=6, spread=0.5).expand(12, -1, -1, -1)
    config = GenerationConfig(temperature=1.0, num_return_sequences=3)
    together = generate(Table(table), 12, config, SMALL, 8)
    assert generate(Table(table), 12, config, SMALL, 8) == together
    assert generate(Table(table), 12, config.model_copy(update={"seed": 1}), SMALL, 8) != together
    for row in (0, 5, 11):
        (alone,) = generate(Table(table[:1]), 1, config, SMALL, 8, row_numbers=[row])
        assert [one.text for one in alone] == [one.text for one in together[row]]
    (fewer,) = generate(Table(table[:1]), 1, config.model_copy(update={"num_return_sequences": 1}), SMALL, 8)
    assert fewer[0] == together[0][0]
    assert len({one.text for row in together for one in row}) > 10
    order = [7, 3, 0]
    some = generate(Table(table[:3]), 3, config, SMALL, 8, row_numbers=order)
    assert [[one.text for one in row] for row in some] == [[one.text for one in together[row]] for row in order]


def test_draws_go_on_after_those_that_are_made_ahead() -> None:
    table = torch.zeros(2, 5, 5, 4)
    table[..., SMALL.eos_id] = -30.0
    long = generate(Table(table), 2, GenerationConfig(temperature=1.0), SMALL, 200)
    assert [len(one.tokens) for (one,) in long] == [200, 200]
    assert long[0][0].tokens[:64] != long[0][0].tokens[64:128]
    short = generate(Table(table), 2, GenerationConfig(temperature=1.0), SMALL, 100)
    assert [one.tokens for (one,) in short] == [one.tokens[:100] for (one,) in long]


def test_finished_rows_are_computed_no_more() -> None:
    table = torch.zeros(4, 5, 5, 4)
    table[..., 1] = 5.0
    table[1:, ..., SMALL.eos_id] = 9.0
    state = Table(table)
    found = generate(state, 4, GenerationConfig(), SMALL, 6)
    assert [one.text for (one,) in found] == ["aaaaaa", "", "", ""]
    assert [one.finish_reason for (one,) in found] == ["length", "end", "end", "end"]
    assert state.widths == [4, 1, 1, 1, 1, 1]


def text_table(text: str, vocabulary: int) -> torch.Tensor:
    """Logits of a decoder that generates `text` byte by byte, for texts in which all bytes differ."""
    ids = [vocabulary, vocabulary, *TOKENIZER.encode([text])[0], TOKENIZER.eos_id]
    table = torch.zeros(1, vocabulary + 1, vocabulary + 1, vocabulary)
    for first, second, third in zip(ids, ids[1:], ids[2:], strict=False):
        table[0, first, second, third] = 20.0
    return table


@pytest.mark.parametrize(("beams", "temperature"), [(1, 0.0), (3, 0.0), (1, 0.01)])
def test_texts_end_at_a_stop_string_across_tokens(beams: int, temperature: float) -> None:
    table = text_table("one, двa; 3.", TOKENIZER.vocab_size)
    for stops, text in [([";"], "one, двa"), (["a; 3", "x"], "one, дв"), (["zzz", "ne,"], "o"), (["дв", "3"], "one,")]:
        config = GenerationConfig(stop_strings=stops, num_beams=beams, temperature=temperature)
        ((one,),) = generate(Table(table), 1, config, TOKENIZER, 40)
        assert (one.text, one.finish_reason) == (text, "stop")
        assert len(one.token_log_probabilities) == len(one.tokens)
    ((whole,),) = generate(
        Table(table),
        1,
        GenerationConfig(stop_strings=["never"], num_beams=beams, temperature=temperature),
        TOKENIZER,
        40,
    )
    assert (whole.text, whole.finish_reason) == ("one, двa; 3.", "end")


def test_a_stop_ends_one_row_and_not_the_other() -> None:
    table = torch.cat([text_table("ab;cd", TOKENIZER.vocab_size), text_table("ab,cd", TOKENIZER.vocab_size)])
    for beams in (1, 2):
        found = generate(Table(table), 2, GenerationConfig(stop_strings=[";"], num_beams=beams), TOKENIZER, 20)
        assert [(one.text, one.finish_reason) for (one,) in found] == [("ab", "stop"), ("ab,cd", "end")]


def test_no_rows_give_no_texts_and_logits_of_nan_are_reported() -> None:
    assert generate(Table(random_table(0, 4, seed=0)), 0, GenerationConfig(), SMALL, 3) == []
    broken = torch.full((1, 5, 5, 4), torch.nan)
    for config in (GenerationConfig(), GenerationConfig(num_beams=2)):
        with pytest.raises(TrainingError, match="finite"):
            generate(Table(broken), 1, config, SMALL, 3)
