"""Tiny multimodal language models with random weights, made by transformers itself: one of each supported family."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch

from laws.checkpoints import write
from laws.tiny import final_folder

TEXTS = ["What color is the shape?", "Is it a circle or a square?", "red green blue yes no", "user assistant system"]
BASE = ["<pad>", "<bos>", "<eos>", "<turn>", "<end>"]
IMAGE_TOKENS = {
    "llava": ["<image>"],
    "vipllava": ["<image>"],
    "gemma3": ["<start_of_image>", "<image_soft_token>", "<end_of_image>"],
}
VOCABULARY = 320
SIDE = 32
#: Four features for each image.
VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": SIDE,
    "patch_size": 16,
}
LANGUAGE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "vocab_size": VOCABULARY,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def template(kind: str) -> str:
    """The chat template of a tiny checkpoint."""
    return (
        "{{ bos_token }}{% for message in messages %}<turn>{{ message['role'] }}\n"
        "{% for part in message['content'] %}{% if part['type'] == 'image' %}" + IMAGE_TOKENS[kind][0] + "{% else %}"
        "{{ part['text'] }}{% endif %}{% endfor %}<end>\n{% endfor %}"
        "{% if add_generation_prompt %}<turn>assistant\n{% endif %}"
    )


@cache
def multimodal_checkpoint(kind: str = "llava") -> str:
    """The folder of a tiny multimodal language model; made once a process, the same each time."""
    from transformers import AutoConfig, AutoModelForMultimodalLM

    folder = Path(mkdtemp(prefix=f"tiny-{kind}-"))
    _save_tokenizer(folder, kind)
    _save_preprocessor(folder, kind)
    first = len(BASE)
    if kind == "gemma3":
        values: dict[str, Any] = {
            "vision_config": {
                **VISION,
                "image_size": 64,
                "model_type": "siglip_vision_model",
                "vision_use_head": False,
            },
            "text_config": {**LANGUAGE, "model_type": "gemma3_text", "sliding_window": 6},
            "mm_tokens_per_image": 4,
            "boi_token_index": first,
            "image_token_index": first + 1,
            "eoi_token_index": first + 2,
        }
    else:
        values = {
            "vision_config": {**VISION, "model_type": "clip_vision_model"},
            "text_config": {**LANGUAGE, "model_type": "llama"},
            "image_token_index": first,
            **({"vision_feature_layer": [-1, -2, 1]} if kind == "vipllava" else {}),
        }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: Any = AutoModelForMultimodalLM.from_config(AutoConfig.for_model(kind, **values))
        with torch.no_grad():
            for parameter in model.parameters():  # large enough that every part shows in the logits
                parameter.add_(0.1 * torch.randn(parameter.shape))
        model.save_pretrained(folder)
    return final_folder(folder, f"multimodal-{kind}")


def _save_tokenizer(folder: Path, kind: str) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = [*BASE, *IMAGE_TOKENS[kind]]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS * 4, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    tokenizer.save(str(folder / "tokenizer.json"))
    said: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<bos>",
        "eos_token": "<eos>",
        "pad_token": "<pad>",
        "chat_template": template(kind),
    }
    write(folder / "tokenizer_config.json", said)


def _save_preprocessor(folder: Path, kind: str) -> None:
    if kind == "gemma3":
        said: dict[str, Any] = {"image_processor_type": "Gemma3ImageProcessor", "size": {"height": 64, "width": 64}}
    else:
        said = {
            "image_processor_type": "CLIPImageProcessor",
            "size": {"shortest_edge": SIDE},
            "crop_size": {"height": SIDE, "width": SIDE},
        }
    write(folder / "preprocessor_config.json", said)
