"""Tiny text checkpoints of every kind, network and tokenizer made by transformers itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from laws.tiny import final_folder

TEXTS = [
    "The quick brown fox jumps over the lazy dog.",
    "naïve café — it's 3,14 €!",
    "UPPER lower  two blanks\nand a line, unbelievably antidisestablishmentarianism",
    "猫が好き 😀",
    "a",
    "don't (stop) me now; re-read: [this] {that} <these> & those/that",
    "word " * 60,
]
#: Most positions of every tiny checkpoint, where its kind has a limit.
POSITIONS = 32
SMALL: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}


@cache
def text_checkpoint(kind: str) -> str:
    """The folder of a tiny checkpoint of this kind; made once a process, the same each time."""
    folder = Path(mkdtemp(prefix=f"tiny-{kind}-"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        KINDS[kind](folder)
    return final_folder(folder, f"text-{kind}")


def _trained(model: Any, before: Any, trainer: Any) -> dict[str, Any]:
    """The model part of a tokenizer that was trained on `TEXTS`, as `tokenizer.json` has it."""
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = before
    tokenizer.train_from_iterator(TEXTS, trainer)
    found: dict[str, Any] = json.loads(tokenizer.to_str())["model"]
    return found


@cache
def byte_pairs(*special: str) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges over bytes, the special tokens first."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=list(special), initial_alphabet=alphabet, show_progress=False
    )
    found = _trained(models.BPE(), pre_tokenizers.ByteLevel(add_prefix_space=False), trainer)
    return found["vocab"], [tuple(pair) for pair in found["merges"]]


@cache
def word_pieces(*special: str) -> dict[str, int]:
    trainer = trainers.WordPieceTrainer(vocab_size=300, special_tokens=list(special), show_progress=False)
    found: dict[str, int] = _trained(models.WordPiece(), pre_tokenizers.BertPreTokenizer(), trainer)["vocab"]
    return found


@cache
def unigrams() -> list[tuple[str, float]]:
    trainer = trainers.UnigramTrainer(
        vocab_size=150, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    return [tuple(one) for one in _trained(models.Unigram(), pre_tokenizers.Metaspace(), trainer)["vocab"]]


def _bert(folder: Path) -> None:
    from transformers import BertConfig, BertModel, BertTokenizer

    vocabulary = word_pieces("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    BertTokenizer(vocab=vocabulary, model_max_length=POSITIONS).save_pretrained(folder)
    config = BertConfig(vocab_size=len(vocabulary), max_position_embeddings=POSITIONS, **SMALL)
    BertModel(config).save_pretrained(folder)


def _distilbert(folder: Path) -> None:
    from transformers import BertTokenizer, DistilBertConfig, DistilBertModel

    vocabulary = word_pieces("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    BertTokenizer(vocab=vocabulary, model_max_length=POSITIONS).save_pretrained(folder)
    config = DistilBertConfig(
        vocab_size=len(vocabulary), max_position_embeddings=POSITIONS, dim=16, n_layers=3, n_heads=2, hidden_dim=32
    )
    DistilBertModel(config).save_pretrained(folder)


def _modernbert(folder: Path) -> None:
    from tokenizers import decoders
    from tokenizers.processors import TemplateProcessing
    from transformers import ModernBertConfig, ModernBertModel, PreTrainedTokenizerFast

    special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    vocabulary, merges = byte_pairs(*special)
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=POSITIONS, **names).save_pretrained(folder)
    config = ModernBertConfig(
        vocab_size=len(vocabulary),
        max_position_embeddings=POSITIONS,
        pad_token_id=0,
        cls_token_id=2,
        sep_token_id=3,
        bos_token_id=2,
        eos_token_id=3,
        local_attention=8,
        **SMALL,
    )
    ModernBertModel(config).save_pretrained(folder)


def _roberta(folder: Path) -> None:
    from transformers import RobertaConfig, RobertaModel, RobertaTokenizer

    vocabulary, merges = byte_pairs("<s>", "<pad>", "</s>", "<unk>", "<mask>")
    RobertaTokenizer(vocab=vocabulary, merges=merges, model_max_length=POSITIONS).save_pretrained(folder)
    config = RobertaConfig(vocab_size=len(vocabulary), max_position_embeddings=POSITIONS + 2, **SMALL)
    RobertaModel(config).save_pretrained(folder)


def _sentence(folder: Path) -> None:
    """An MPNet sentence encoder: mean pooling, then length 1."""
    from transformers import MPNetConfig, MPNetModel, MPNetTokenizer

    vocabulary = word_pieces("<s>", "<pad>", "</s>", "<unk>", "[UNK]", "<mask>")
    MPNetTokenizer(vocab=vocabulary, model_max_length=POSITIONS).save_pretrained(folder)
    config = MPNetConfig(vocab_size=len(vocabulary), max_position_embeddings=POSITIONS + 2, pad_token_id=1, **SMALL)
    MPNetModel(config).save_pretrained(folder)
    sentence_files(folder, {"pooling_mode_mean_tokens": True}, normalise=True)


def sentence_files(folder: Path, pooling: dict[str, Any], normalise: bool) -> None:
    """Write the files that make a folder one of sentence-transformers."""
    kinds = ["Transformer", "Pooling", *(["Normalize"] if normalise else [])]
    modules = [
        {
            "idx": place,
            "name": str(place),
            "path": f"{place}_{kind}" if place else "",
            "type": f"sentence_transformers.models.{kind}",
        }
        for place, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    (folder / "1_Pooling").mkdir(exist_ok=True)
    values = {"word_embedding_dimension": 16, **pooling}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(values), encoding="utf-8")


def _t5(folder: Path) -> None:
    from transformers import T5Config, T5Model, T5Tokenizer

    T5Tokenizer(vocab=unigrams(), extra_ids=4).save_pretrained(folder)
    config = T5Config(
        vocab_size=len(unigrams()) + 4, d_model=16, d_kv=8, d_ff=32, num_layers=3, num_decoder_layers=1, num_heads=2
    )
    T5Model(config).save_pretrained(folder)


def _bart(folder: Path) -> None:
    from transformers import BartConfig, BartModel, BartTokenizer

    vocabulary, merges = byte_pairs("<s>", "<pad>", "</s>", "<unk>", "<mask>")
    BartTokenizer(vocab=vocabulary, merges=merges, model_max_length=POSITIONS).save_pretrained(folder)
    config = BartConfig(
        vocab_size=len(vocabulary),
        d_model=16,
        encoder_layers=3,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_position_embeddings=POSITIONS,
    )
    BartModel(config).save_pretrained(folder)


def _gpt2(folder: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel, GPT2Tokenizer

    vocabulary, merges = byte_pairs("<|endoftext|>")
    GPT2Tokenizer(vocab=vocabulary, merges=merges, model_max_length=POSITIONS).save_pretrained(folder)
    config = GPT2Config(vocab_size=len(vocabulary), n_positions=POSITIONS, n_embd=16, n_layer=3, n_head=2)
    GPT2LMHeadModel(config).save_pretrained(folder)


def _llama(folder: Path) -> None:
    """A decoder whose tokenizer puts its first token before texts."""
    from transformers import LlamaConfig, LlamaForCausalLM, LlamaTokenizer

    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False)
    found = _trained(models.BPE(), pre_tokenizers.Metaspace(), trainer)
    merges = [tuple(pair) for pair in found["merges"]]
    LlamaTokenizer(vocab=found["vocab"], merges=merges, add_bos_token=True).save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(found["vocab"]), max_position_embeddings=POSITIONS, num_key_value_heads=1, **SMALL
    )
    LlamaForCausalLM(config).save_pretrained(folder)


def _qwen(folder: Path) -> None:
    from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

    vocabulary, merges = byte_pairs("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    Qwen2Tokenizer(vocab=vocabulary, merges=merges).save_pretrained(folder)
    config = Qwen2Config(vocab_size=len(vocabulary), max_position_embeddings=POSITIONS, num_key_value_heads=1, **SMALL)
    Qwen2ForCausalLM(config).save_pretrained(folder)


def _clip(folder: Path) -> None:
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=560, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False
    )
    found = _trained(models.BPE(end_of_word_suffix="</w>"), pre_tokenizers.ByteLevel(add_prefix_space=False), trainer)
    tokens = dict.fromkeys([*found["vocab"], *(f"{sign}</w>" for sign in alphabet)])
    vocabulary = {token: number for number, token in enumerate([*tokens, "<|startoftext|>", "<|endoftext|>"])}
    merges = [tuple(pair) for pair in found["merges"]]
    CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=POSITIONS).save_pretrained(folder)
    text = {
        **SMALL,
        "vocab_size": len(vocabulary),
        "max_position_embeddings": POSITIONS,
        "bos_token_id": len(vocabulary) - 2,
        "eos_token_id": len(vocabulary) - 1,
        "projection_dim": 12,
    }
    vision = {**SMALL, "image_size": 32, "patch_size": 16, "projection_dim": 12}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)).save_pretrained(folder)


def _siglip(folder: Path) -> None:
    from transformers import SiglipConfig, SiglipModel, T5Tokenizer

    T5Tokenizer(vocab=unigrams(), extra_ids=0, pad_token="</s>", model_max_length=POSITIONS).save_pretrained(folder)
    text = {**SMALL, "vocab_size": len(unigrams()), "max_position_embeddings": POSITIONS, "projection_size": 16}
    vision = {**SMALL, "image_size": 32, "patch_size": 16}
    SiglipModel(SiglipConfig(text_config=text, vision_config=vision)).save_pretrained(folder)


def _clap(folder: Path) -> None:
    from transformers import ClapConfig, ClapModel, RobertaTokenizer

    vocabulary, merges = byte_pairs("<s>", "<pad>", "</s>", "<unk>", "<mask>")
    RobertaTokenizer(vocab=vocabulary, merges=merges, model_max_length=POSITIONS).save_pretrained(folder)
    text = {**SMALL, "vocab_size": len(vocabulary), "max_position_embeddings": POSITIONS + 2}
    audio = {
        "spec_size": 32,
        "num_mel_bins": 8,
        "patch_embeds_hidden_size": 8,
        "hidden_size": 16,
        "depths": [1, 1],
        "num_attention_heads": [1, 2],
        "num_hidden_layers": 2,
        "window_size": 2,
        "patch_size": 4,
        "patch_stride": [4, 4],
    }
    ClapModel(ClapConfig(text_config=text, audio_config=audio, projection_dim=12)).save_pretrained(folder)


KINDS: dict[str, Callable[[Path], None]] = {
    "bert": _bert,
    "distilbert": _distilbert,
    "modernbert": _modernbert,
    "roberta": _roberta,
    "sentence": _sentence,
    "t5": _t5,
    "bart": _bart,
    "gpt2": _gpt2,
    "llama": _llama,
    "qwen": _qwen,
    "clip": _clip,
    "siglip": _siglip,
    "clap": _clap,
}
