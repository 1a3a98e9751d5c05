"""Decoders of pretrained encoder-decoders generate the same as `generate` of transformers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from laws.checkpoints import checkpoint
from laws.seq2seq_checkpoints import CONTROL, KINDS, seq2seq_checkpoint
from polymodal.core.errors import RecipeError
from polymodal.pretrained.checkpoint_config import CheckpointConfig
from polymodal.pretrained.resolve import read_checkpoint_config
from polymodal.pretrained.seq2seq_decoder import Seq2SeqDecoder, reorder_cache, start_tokens

pytest.importorskip("transformers")
STEPS = 12


def card(kind: str) -> CheckpointConfig:
    return read_checkpoint_config(seq2seq_checkpoint(kind), "audio" if kind == "whisper" else "text")


@pytest.fixture(params=sorted(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def loaded(kind: str) -> Seq2SeqDecoder:
    model = Seq2SeqDecoder(card(kind))
    model.load()
    model.eval()
    return model


def reference(kind: str) -> Any:
    from transformers import AutoModelForSeq2SeqLM, AutoModelForSpeechSeq2Seq

    auto = AutoModelForSpeechSeq2Seq if kind == "whisper" else AutoModelForSeq2SeqLM
    return auto.from_pretrained(seq2seq_checkpoint(kind)).eval()


def inputs(kind: str, items: int) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    if kind == "whisper":
        return {"input_features": torch.randn(items, 80, 200, generator=draw)}
    ids = torch.randint(5, 40, (items, 12), generator=draw)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


@torch.no_grad()
def greedy(model: Seq2SeqDecoder, memory: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    tokens, cache, found = torch.tensor([model.start_tokens] * len(memory)), model.new_cache(), []
    for step in range(STEPS):
        logits = model.suppress_logits(model(memory, mask, tokens, cache)[:, -1], first=step == 0)
        tokens = logits.argmax(-1, keepdim=True)
        found.append(tokens)
    return torch.cat(found, 1)


def test_generates_the_same_as_transformers(kind: str) -> None:
    model, theirs, given = loaded(kind), reference(kind), inputs(kind, 4)
    with torch.no_grad():
        memory = theirs.get_encoder()(**given).last_hidden_state
    wanted = theirs.generate(
        **given, max_new_tokens=STEPS, do_sample=False, num_beams=1, **({"language": "en"} if kind == "whisper" else {})
    )
    found = greedy(model, memory)
    end = theirs.config.eos_token_id
    for row, other in zip(found.tolist(), wanted.tolist(), strict=True):
        text = (row[: row.index(end)] if end in row else row)[: STEPS - 2]  # the last ones may be forced there
        first = 0 if kind == "whisper" else len(model.start_tokens)  # transformers leaves out Whisper's start tokens
        assert other[first:][: len(text)] == text
    assert len(set(map(tuple, found.tolist()))) > 1, "the tiny checkpoint writes the same whatever it reads"


def test_memory_padding_is_ignored(kind: str) -> None:
    model = loaded(kind)
    memory = torch.randn(2, 9, model.width, generator=torch.Generator().manual_seed(1))
    mask = torch.ones(2, 9, dtype=torch.bool)
    mask[1, 6:] = False
    tokens = torch.tensor([[*model.start_tokens, 40, 41, 42]] * 2)
    with torch.no_grad():
        both, alone = model(memory, mask, tokens), model(memory[1:, :6], None, tokens[1:])
    assert torch.allclose(both[1:], alone, atol=1e-4)
    assert not torch.allclose(both[1:], model(memory[1:], None, tokens[1:]), atol=1e-2)


def test_the_cache_gives_the_same_logits_and_can_be_reordered(kind: str) -> None:
    model = loaded(kind)
    memory = torch.randn(3, 7, model.width, generator=torch.Generator().manual_seed(2))
    tokens = torch.tensor([[*model.start_tokens, 40 + row, 45, 46] for row in range(3)])
    rows = torch.tensor([2, 0, 2])
    with torch.no_grad():
        cache = model.new_cache()
        model(memory, None, tokens[:, :-1], cache)
        reorder_cache(cache, rows)
        found = model(memory[rows], None, tokens[rows, -1:], cache)[:, -1]
        assert torch.allclose(found, model(memory, None, tokens)[rows, -1], atol=1e-4)


def test_the_configuration_is_enough_to_build_it(kind: str, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(seq2seq_checkpoint(kind), moved)
    saved = read_checkpoint_config(str(moved), "audio" if kind == "whisper" else "text").to_dict()
    shutil.rmtree(moved)
    again = Seq2SeqDecoder(CheckpointConfig.from_dict(json.loads(json.dumps(saved))))
    assert again.state_dict().keys() == loaded(kind).state_dict().keys()
    assert not any("encoder.layers" in name or "encoder.block" in name for name in again.state_dict())


def test_start_tokens_are_the_forced_tokens_of_the_configuration() -> None:
    numbers = {token: place for place, token in enumerate(CONTROL)}

    def names(*tokens: str) -> list[int]:
        return [numbers[f"<|{token}|>"] for token in tokens]

    whisper = card("whisper")
    assert Seq2SeqDecoder(whisper).start_tokens == names("startoftranscript", "en", "transcribe", "notimestamps")
    assert Seq2SeqDecoder(whisper, "de").start_tokens == names("startoftranscript", "de", "transcribe", "notimestamps")
    assert Seq2SeqDecoder(card("bart")).start_tokens == [2, 0]
    assert Seq2SeqDecoder(card("marian")).suppressed_tokens == [0]
    with pytest.raises(RecipeError, match=r"language.*does not support 'fr'; supported: de, en"):
        Seq2SeqDecoder(whisper, "fr")
    with pytest.raises(RecipeError, match=r"language.*has no language tokens"):
        Seq2SeqDecoder(card("t5"), "de")
    with pytest.raises(RecipeError, match="no decoder_start_token_id"):
        start_tokens({}, whisper)


def test_only_encoder_decoders_are_accepted() -> None:
    with pytest.raises(RecipeError, match="not an encoder-decoder model"):
        Seq2SeqDecoder(read_checkpoint_config(checkpoint("text"), "text"))
