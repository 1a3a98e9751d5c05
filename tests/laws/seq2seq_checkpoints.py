"""Tiny encoder-decoders with random weights, network and tokenizer made by transformers itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch

from laws.checkpoints import write
from laws.text_checkpoints import POSITIONS, byte_pairs, unigrams
from laws.tiny import final_folder

SMALL: dict[str, Any] = {
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    # so large that what is written depends on what is read
    "init_std": 0.4,
}
#: Control tokens of the tiny Whisper, in the order of their numbers.
CONTROL = ("<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|de|>", "<|transcribe|>", "<|notimestamps|>")
#: Seconds that the tiny Whisper hears.
WINDOW = 2


@cache
def seq2seq_checkpoint(kind: str) -> str:
    """The folder of a tiny encoder-decoder of this kind; made once a process, the same each time."""
    folder = Path(mkdtemp(prefix=f"tiny-{kind}-"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        KINDS[kind](folder)
    return final_folder(folder, f"seq2seq-{kind}")


def _t5(folder: Path) -> None:
    from transformers import T5Config, T5ForConditionalGeneration, T5Tokenizer

    T5Tokenizer(vocab=unigrams(), extra_ids=4).save_pretrained(folder)
    config = T5Config(
        vocab_size=len(unigrams()) + 4,
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=2,
        num_decoder_layers=2,
        num_heads=2,
        initializer_factor=8.0,
        decoder_start_token_id=0,
    )
    T5ForConditionalGeneration(config).save_pretrained(folder)


def _bart(folder: Path) -> None:
    from transformers import BartConfig, BartForConditionalGeneration, BartTokenizer

    vocabulary, merges = byte_pairs("<s>", "<pad>", "</s>", "<unk>", "<mask>")
    BartTokenizer(vocab=vocabulary, merges=merges, model_max_length=POSITIONS).save_pretrained(folder)
    config = BartConfig(vocab_size=len(vocabulary), max_position_embeddings=POSITIONS, dropout=0.0, **SMALL)
    BartForConditionalGeneration(config).save_pretrained(folder)
    said = {"decoder_start_token_id": 2, "forced_bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
    write(folder / "generation_config.json", said)


def _marian(folder: Path) -> None:
    """Marian's own tokenizer has no file that is read here: the same pieces in a `tokenizer.json`."""
    from transformers import MarianConfig, MarianMTModel, T5Tokenizer

    T5Tokenizer(vocab=unigrams(), extra_ids=0, model_max_length=POSITIONS).save_pretrained(folder)
    size = len(unigrams())
    config = MarianConfig(
        vocab_size=size,
        max_position_embeddings=POSITIONS,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
        decoder_start_token_id=0,
        forced_eos_token_id=None,
        dropout=0.0,
        **SMALL,
    )
    MarianMTModel(config).save_pretrained(folder)
    said = {"decoder_start_token_id": 0, "eos_token_id": 1, "pad_token_id": 0, "bad_words_ids": [[0]]}
    write(folder / "generation_config.json", said)


def _whisper(folder: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import (
        PreTrainedTokenizerFast,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
    )

    vocabulary, merges = byte_pairs(*CONTROL)
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(CONTROL))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=CONTROL[0]).save_pretrained(folder)
    numbers = {token: vocabulary[token] for token in CONTROL}
    end, start = numbers["<|endoftext|>"], numbers["<|startoftranscript|>"]
    config = WhisperConfig(
        vocab_size=len(vocabulary),
        num_mel_bins=80,
        max_source_positions=50 * WINDOW,
        max_target_positions=POSITIONS,
        pad_token_id=end,
        bos_token_id=start,
        eos_token_id=end,
        decoder_start_token_id=start,
        dropout=0.0,
        **SMALL,
    )
    WhisperForConditionalGeneration(config).save_pretrained(folder)
    WhisperFeatureExtractor(chunk_length=WINDOW).save_pretrained(folder)
    write(
        folder / "generation_config.json",
        {
            "decoder_start_token_id": start,
            "eos_token_id": end,
            "pad_token_id": end,
            "is_multilingual": True,
            "lang_to_id": {name: numbers[name] for name in ("<|en|>", "<|de|>")},
            "task_to_id": {"transcribe": numbers["<|transcribe|>"]},
            "no_timestamps_token_id": numbers["<|notimestamps|>"],
            "suppress_tokens": sorted(numbers.values())[1:],
            "begin_suppress_tokens": [vocabulary["a"], end],
            "max_length": POSITIONS,
        },
    )


KINDS: dict[str, Callable[[Path], None]] = {"t5": _t5, "bart": _bart, "marian": _marian, "whisper": _whisper}
