"""Tiny causal language models with random weights, made by transformers itself: one of each kind of architecture."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch

from laws.checkpoints import write
from laws.tiny import final_folder

TEXTS = ["a red ball on the grass", "two small dogs", "the sea in the evening", "a cat asleep", "three green trees"]
CONTROL = ["<pad>", "<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"]
VOCABULARY = 300
SHARED = {"vocab_size": VOCABULARY, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 128,
}
WINDOWS = {"sliding_window": 6, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}
#: By `model_type`; one with and one without a table that is the head too, windows, positions that are learned.
LANGUAGE_MODELS: dict[str, dict[str, Any]] = {
    "llama": {**SIZES, "head_dim": 8, "tie_word_embeddings": False},
    "gpt2": {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 128},
    "gemma3_text": {**SIZES, **WINDOWS, "head_dim": 8, "query_pre_attn_scalar": 8, "tie_word_embeddings": True},
    "gemma2": {**SIZES, **WINDOWS, "head_dim": 8, "query_pre_attn_scalar": 8, "final_logit_softcapping": 3.0},
    "qwen2": {**SIZES, "tie_word_embeddings": True},
    "qwen3": {**SIZES, "head_dim": 8},
    "mistral": {**SIZES, "head_dim": 8, "sliding_window": 6},
}
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<start_of_turn>{{ message['role'] }}\n"
    "{{ message['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


@cache
def language_model(kind: str = "llama") -> str:
    """The folder of a tiny causal language model; made once a process, the same each time."""
    from transformers import AutoConfig, AutoModelForCausalLM

    folder = Path(mkdtemp(prefix=f"tiny-{kind}-"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: Any = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SHARED, **LANGUAGE_MODELS[kind]))
        with torch.no_grad():
            for parameter in model.parameters():  # large enough that every part shows in the logits
                parameter.add_(0.2 * torch.randn(parameter.shape))
        model.save_pretrained(folder)
    save_tokenizer(folder)
    return final_folder(folder, f"language-{kind}")


def save_tokenizer(folder: Path, template: str | None = TEMPLATE) -> None:
    """Write a byte-level tokenizer with control tokens and a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=CONTROL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS * 4, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    tokenizer.save(str(folder / "tokenizer.json"))
    said = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<bos>", "eos_token": "<eos>"}
    said |= {"pad_token": "<pad>"} | ({"chat_template": template} if template is not None else {})
    write(folder / "tokenizer_config.json", said)
