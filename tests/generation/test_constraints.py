"""Texts that are held to choices, a regular expression, a JSON schema: always met, by every way of config."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from generation.table_state import TOKENIZER as BYTES
from generation.table_state import Table
from polymodal.core.errors import MissingExtraError, RecipeError
from polymodal.generation.config import GenerationConfig
from polymodal.generation.constraints import grammar
from polymodal.generation.generate import generate
from polymodal.generation.tokenizer import TextTokenizer

TEXTS = ["a cat's hat on the mat", "zwei Hunde laufen"] * 20 + [chr(code) for code in range(33, 127)] * 3
OWN = TextTokenizer.train(TEXTS, 330)
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "count": {"type": "integer"},
        "kind": {"enum": ["cat", "Hund"]},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["name", "count", "kind"],
    "additionalProperties": False,
}
WAYS = [
    GenerationConfig(),
    GenerationConfig(num_beams=3, num_return_sequences=2),
    GenerationConfig(temperature=1.0, num_return_sequences=3),
    GenerationConfig(temperature=3.0, top_k=5, repetition_penalty=1.5),
]


def metaspace() -> TextTokenizer:
    """Unigram tokens with a symbol for spaces, as in T5."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=200, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return TextTokenizer(tokenizer, 0, 1, tokenizer.get_vocab_size())


def fallback() -> TextTokenizer:
    """Pieces with a sign for blanks and tokens for single bytes, as Gemma has them; more numbers than tokens."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    trainer = trainers.BpeTrainer(vocab_size=150, special_tokens=["<pad>", "</s>", "<unk>"], show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    said = json.loads(tokenizer.to_str())
    size = len(said["model"]["vocab"])
    said["model"]["vocab"] |= {f"<0x{byte:02X}>": size + byte for byte in range(256)}
    tokenizer = Tokenizer.from_str(json.dumps(said))
    return TextTokenizer(tokenizer, 0, 1, tokenizer.get_vocab_size() + 7)


TOKENIZERS = {"own": OWN, "metaspace": metaspace(), "fallback": fallback()}


def any_state(tokenizer: TextTokenizer, rows: int = 3, seed: int = 0) -> Table:
    """A state with random logits that depend only on the last token."""
    draw = torch.Generator().manual_seed(seed)
    size = tokenizer.vocab_size
    logits = 2 * torch.randn(rows, 1, size + 1, size, generator=draw)
    return Table(logits.expand(-1, size + 1, -1, -1))


@pytest.mark.parametrize("way", WAYS, ids=["greedy", "beams", "draws", "odd draws"])
@pytest.mark.parametrize("name", list(TOKENIZERS))
def test_json_always_meets_its_schema(name: str, way: GenerationConfig) -> None:
    tokenizer = TOKENIZERS[name]
    for steps in (90, 45):
        found = generate(any_state(tokenizer), 3, way.model_copy(update={"json_schema": SCHEMA}), tokenizer, steps)
        for row in found:
            assert len(row) == way.num_return_sequences
            for one in row:
                read = json.loads(one.text)
                assert one.finish_reason == "end"
                assert len(one.tokens) < steps
                assert list(read)[:3] == ["name", "count", "kind"]
                assert isinstance(read["name"], str)
                assert isinstance(read["count"], int)
                assert read["kind"] in ("cat", "Hund")
                assert set(read) <= set(SCHEMA["properties"])


@pytest.mark.parametrize("way", WAYS, ids=["greedy", "beams", "draws", "odd draws"])
@pytest.mark.parametrize("name", list(TOKENIZERS))
def test_texts_match_their_regular_expression(name: str, way: GenerationConfig) -> None:
    tokenizer = TOKENIZERS[name]
    for pattern, steps in ((r"[0-9]{4}-(ab|cd)+!", 12), (r"[^x]*x", 6), (r"(a/b|c)\.?", 5), (r"[a-z]{3,}", 40)):
        found = generate(any_state(tokenizer, seed=1), 3, way.model_copy(update={"regex": pattern}), tokenizer, steps)
        for one in (one for row in found for one in row):
            assert re.fullmatch(pattern, one.text), (pattern, one.text)
            assert one.finish_reason == "end"


@pytest.mark.parametrize("way", WAYS, ids=["greedy", "beams", "draws", "odd draws"])
@pytest.mark.parametrize("name", list(TOKENIZERS))
def test_only_choices_are_generated(name: str, way: GenerationConfig) -> None:
    tokenizer = TOKENIZERS[name]
    choices = ["a", "a cat", "a cat's hat", "zwei Hunde"]
    found = generate(any_state(tokenizer, rows=6), 6, way.model_copy(update={"choices": choices}), tokenizer, 30)
    assert {one.text for row in found for one in row} <= set(choices)
    short = generate(any_state(tokenizer, rows=6), 6, way.model_copy(update={"choices": choices}), tokenizer, 3)
    fits = {choices[at] for at, ids in enumerate(tokenizer.encode(choices)) if len(ids) < 3}
    assert {one.text for row in short for one in row} <= fits


def test_beams_find_the_likeliest_choice_and_draws_the_share_of_each() -> None:
    choices = ["a", "a cat", "zwei", "a hat"]
    table = any_state(OWN, rows=1).logits
    said = table[0, 0].log_softmax(-1)

    def of(text: str) -> float:
        path = [OWN.vocab_size, *OWN.encode([text])[0], OWN.eos_id]
        return sum(float(said[first, second]) for first, second in itertools.pairwise(path))

    config = GenerationConfig(num_beams=8, num_return_sequences=8, length_penalty=0, choices=choices)
    (found,) = generate(Table(table), 1, config, OWN, 20)
    assert [one.text for one in found] == sorted(choices, key=of, reverse=True)
    for one in found:
        assert one.log_probability == pytest.approx(of(one.text), abs=1e-3)


def test_a_draw_is_from_what_the_constraint_leaves() -> None:
    table = torch.zeros(1, BYTES.vocab_size + 1, BYTES.vocab_size + 1, BYTES.vocab_size)
    shares = {"x": 0.5, "y": 0.3, "z": 0.2}
    for letter, share in shares.items():
        table[..., BYTES.encode([letter])[0][-1]] = torch.tensor(share).log()
    config = GenerationConfig(temperature=1.0, num_return_sequences=1000, regex="[xyz]")
    counts = Counter(one.text for one in generate(Table(table), 1, config, BYTES, 3)[0])
    assert set(counts) == set(shares)
    for letter, share in shares.items():
        assert abs(counts[letter] - 1000 * share) < 4 * (1000 * share * (1 - share)) ** 0.5


@pytest.mark.parametrize("config", [GenerationConfig(), GenerationConfig(num_beams=2)], ids=["greedy", "beams"])
def test_a_choice_is_generated_even_if_the_decoder_gives_it_probability_zero(config: GenerationConfig) -> None:
    table = torch.full((1, OWN.vocab_size + 1, OWN.vocab_size + 1, OWN.vocab_size), -torch.inf)
    table[..., 7] = 0.0
    ((one,),) = generate(Table(table), 1, config.model_copy(update={"choices": ["cat", "Hund"]}), OWN, 20)
    assert one.text in ("cat", "Hund")
    assert one.log_probability == -torch.inf


@pytest.mark.parametrize(
    ("options", "steps", "message"),
    [
        ({"regex": "("}, 20, "regex: unclosed group"),
        ({"regex": "(?=a)b"}, 20, "regex: look-around"),
        ({"regex": "[a&&b]"}, 20, "regex: no text"),
        ({"regex": "[0-9]{30}"}, 20, "regex: .* has 31 tokens .* max_new_tokens is 20"),
        ({"json_schema": {"type": "string", "minLength": 5, "maxLength": 2}}, 20, "json_schema: Unsatisfiable"),
        ({"json_schema": {"type": "text"}}, 20, "json_schema: Invalid type: text"),
        ({"json_schema": {"enum": []}}, 20, "json_schema: Unsatisfiable"),
        ({"json_schema": {"$ref": "#/nowhere"}}, 20, "json_schema: .*nowhere"),
        ({"json_schema": {"type": "array", "items": {"$ref": "#"}, "minItems": 1}}, 20, "json_schema: no text"),
        ({"json_schema": SCHEMA}, 5, "json_schema: .* max_new_tokens is 5"),
        ({"choices": ["zwei Hunde laufen"]}, 2, "choices: the shortest choice has .* the limit is 2"),
    ],
)
def test_impossible_constraints_are_rejected_before_generation(
    options: dict[str, Any], steps: int, message: str
) -> None:
    for way in (GenerationConfig(**options), GenerationConfig(num_beams=2, **options)):
        state = any_state(OWN, rows=1)
        with pytest.raises(RecipeError, match=message):
            generate(state, 1, way, OWN, steps)
        assert state.widths == []


def test_texts_that_cannot_be_tokenized_are_rejected() -> None:
    with pytest.raises(RecipeError, match=r"choices: the tokenizer cannot represent '猫'"):
        generate(
            any_state(TOKENIZERS["metaspace"], rows=1), 1, GenerationConfig(choices=["猫"]), TOKENIZERS["metaspace"], 9
        )
    with pytest.raises(RecipeError, match=r"regex: the tokens of this decoder cannot represent '猫'"):
        generate(
            any_state(TOKENIZERS["metaspace"], rows=1), 1, GenerationConfig(regex="猫"), TOKENIZERS["metaspace"], 9
        )


def test_control_tokens_are_never_part_of_a_text() -> None:
    """The text may hold the words "[end]"; the tokens of control do not spell them."""
    table = any_state(OWN, rows=2).logits.clone()
    table[..., [0, 1, 3, 4, 5]] += 50.0
    for options in ({"regex": r"\[end\][a-z]{2}"}, {"regex": ".{1,5}"}):
        for (one,) in generate(Table(table), 2, GenerationConfig(**options), OWN, 30):
            assert not set(one.tokens) & set(range(6))


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(grammar.importlib, "import_module", missing)
    with pytest.raises(MissingExtraError, match=r"regex needs llguidance: pip install 'polymodal\[text\]'"):
        generate(any_state(OWN, rows=1), 1, GenerationConfig(regex="[a-f]+"), OWN, 9)


def test_held_rows_do_not_depend_on_those_beside_them() -> None:
    state = any_state(OWN, rows=4)
    for way in WAYS:
        config = way.model_copy(update={"json_schema": SCHEMA})
        together = generate(Table(state.logits), 4, config, OWN, 50)
        (alone,) = generate(Table(state.logits[2:3]), 1, config, OWN, 50, row_numbers=[2])
        assert [one.text for one in alone] == [one.text for one in together[2]]
