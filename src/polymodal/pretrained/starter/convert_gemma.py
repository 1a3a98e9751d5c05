"""Conversion of Gemma 3 270M from its packages (one GGUF file in four parts) to a transformers folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from polymodal.core.errors import MissingExtraError, RecipeError

#: Tensor names in GGUF -> names in transformers.
MODEL_NAMES = {"token_embd": "embed_tokens", "output_norm": "norm"}
LAYER_NAMES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_norm": "input_layernorm",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
#: Control tokens that are not marked as special in the file.
CONTROL_TOKENS = ("[multimodal]", "<start_of_image>", "<end_of_image>")
ATTENTION_PERIOD, LOCAL_THETA = 6, 10_000.0


def convert(file: Path, folder: Path) -> None:
    """Write config.json, generation_config.json, model.safetensors, tokenizer.json and tokenizer_config.json into
    `folder`.

    The weights in the file have 4 to 8 bits. They are dequantized to bfloat16, the original format, so computing in
    bfloat16 adds no rounding error.

    Raises:
        MissingExtraError: gguf or transformers is not installed.
        RecipeError: the file contains another architecture.
    """
    try:
        from gguf import GGUFReader, dequantize
        from transformers import AutoTokenizer
    except ModuleNotFoundError as error:
        raise MissingExtraError(str(error.name), "gemma", "converting Gemma 3 270M") from None
    reader = GGUFReader(file)
    if reader.fields["general.architecture"].contents() != "gemma3":
        raise RecipeError("", f"{file} is not a Gemma 3 model")
    weights: dict[str, Tensor] = {}
    for tensor in reader.tensors:
        value = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())
        if tensor.name.endswith("norm.weight"):
            value = value - 1  # norms multiply by 1 + weight in transformers, by the weight in GGUF
        weights[rename_weight(tensor.name)] = value.to(torch.bfloat16).contiguous()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = configuration({name: field.contents() for name, field in _metadata(reader).items()}, weights)
    ends = {name: config[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    tokens: Any = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, local_files_only=True)
    named = {name: str(getattr(tokens, name)) for name in ("bos_token", "eos_token", "pad_token", "unk_token")}
    for name, values in (
        ("config", config),
        ("generation_config", ends),
        ("tokenizer_config", {"tokenizer_class": "GemmaTokenizer", **named}),
        ("tokenizer", mark_control_tokens(json.loads(tokens.backend_tokenizer.to_str()))),
    ):
        (folder / f"{name}.json").write_text(json.dumps(values, ensure_ascii=False), encoding="utf-8")


def rename_weight(name: str) -> str:
    """`blk.3.attn_q.weight` -> `model.layers.3.self_attn.q_proj.weight`."""
    path, _, leaf = name.rpartition(".")
    if path in MODEL_NAMES:
        return f"model.{MODEL_NAMES[path]}.{leaf}"
    _, layer, part = path.split(".")
    return f"model.layers.{layer}.{LAYER_NAMES[part]}.{leaf}"


def configuration(metadata: dict[str, Any], weights: dict[str, Tensor]) -> dict[str, Any]:
    """`config.json` from the metadata of the file; five of six layers have sliding-window attention."""
    layers = metadata["gemma3.block_count"]
    kinds = ["full_attention" if (at + 1) % ATTENTION_PERIOD == 0 else "sliding_attention" for at in range(layers)]
    return {
        "model_type": "gemma3_text",
        "architectures": ["Gemma3ForCausalLM"],
        "vocab_size": len(weights["model.embed_tokens.weight"]),
        "hidden_size": metadata["gemma3.embedding_length"],
        "intermediate_size": metadata["gemma3.feed_forward_length"],
        "num_hidden_layers": layers,
        "num_attention_heads": metadata["gemma3.attention.head_count"],
        "num_key_value_heads": metadata["gemma3.attention.head_count_kv"],
        "head_dim": metadata["gemma3.attention.key_length"],
        "query_pre_attn_scalar": metadata["gemma3.attention.key_length"],
        "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": metadata["gemma3.context_length"],
        "rms_norm_eps": round(metadata["gemma3.attention.layer_norm_rms_epsilon"], 12),
        "sliding_window": metadata["gemma3.attention.sliding_window"],
        "layer_types": kinds,
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": metadata["gemma3.rope.freq_base"]},
            "sliding_attention": {"rope_type": "default", "rope_theta": LOCAL_THETA},
        },
        "attention_bias": False,
        "tie_word_embeddings": True,
        "bos_token_id": metadata["tokenizer.ggml.bos_token_id"],
        "eos_token_id": metadata["tokenizer.ggml.eos_token_id"],
        "pad_token_id": metadata["tokenizer.ggml.padding_token_id"],
        "dtype": "bfloat16",
    }


def mark_control_tokens(tokenizer: dict[str, Any]) -> dict[str, Any]:
    """Mark all control tokens in a `tokenizer.json` as special, so that tokenizing a text never produces them."""
    added = [
        {**one, "special": one["special"] or one["content"] in CONTROL_TOKENS} for one in tokenizer["added_tokens"]
    ]
    return {**tokenizer, "added_tokens": added}


def _metadata(reader: Any) -> dict[str, Any]:
    """The metadata fields of a file without its long token lists."""
    long = ("tokens", "scores", "token_type")
    return {name: field for name, field in reader.fields.items() if not name.endswith(long)}
