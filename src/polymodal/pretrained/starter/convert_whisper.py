"""Conversion of Whisper tiny.en from its package (`model.bin` of CTranslate2) to a transformers folder."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from polymodal.core.errors import RecipeError

FILE_VERSION = 6
DTYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}
#: Names within a layer in CTranslate2 -> names in transformers.
LAYER_NAMES = {
    "self_attention/layer_norm": "self_attn_layer_norm",
    "attention/layer_norm": "encoder_attn_layer_norm",
    "ffn/layer_norm": "final_layer_norm",
    "ffn/linear_0": "fc1",
    "ffn/linear_1": "fc2",
    "self_attention/linear_1": "self_attn.out_proj",
    "attention/linear_0": "encoder_attn.q_proj",
    "attention/linear_2": "encoder_attn.out_proj",
}
#: Matrices that are stacked in one array.
STACKED_NAMES = {
    "self_attention/linear_0": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    "attention/linear_1": ["encoder_attn.k_proj", "encoder_attn.v_proj"],
}
MODEL_NAMES = {
    "conv1": "conv1",
    "conv2": "conv2",
    "layer_norm": "layer_norm",
    "embeddings": "embed_tokens",
    "position_encodings": "embed_positions",
}
PARAMETER_NAMES = {"weight": "weight", "bias": "bias", "gamma": "weight", "beta": "bias", "encodings": "weight"}

END, START, NO_TIMES = 50256, 50257, 50362
CONFIG = {
    "model_type": "whisper",
    "architectures": ["WhisperForConditionalGeneration"],
    "vocab_size": 51864,
    "d_model": 384,
    "encoder_layers": 4,
    "decoder_layers": 4,
    "encoder_attention_heads": 6,
    "decoder_attention_heads": 6,
    "encoder_ffn_dim": 1536,
    "decoder_ffn_dim": 1536,
    "num_mel_bins": 80,
    "max_source_positions": 1500,
    "max_target_positions": 448,
    "activation_function": "gelu",
    "scale_embedding": False,
    "dropout": 0.0,
    "pad_token_id": END,
    "eos_token_id": END,
    "bos_token_id": START,
    "decoder_start_token_id": START,
}
PREPROCESSOR = {
    "feature_extractor_type": "WhisperFeatureExtractor",
    "feature_size": 80,
    "sampling_rate": 16000,
    "hop_length": 160,
    "n_fft": 400,
    "chunk_length": 30,
    "n_samples": 480000,
    "nb_max_frames": 3000,
    "padding_side": "right",
    "padding_value": 0.0,
    "return_attention_mask": False,
    "dither": 0.0,
}


def convert(file: Path, folder: Path) -> None:
    """Write config.json, model.safetensors, preprocessor_config.json, generation_config.json and tokenizer.json of the
    weights in `file` into `folder`: encoder and decoder, float16 as published.

    Raises:
        RecipeError: the file has an unsupported version.
    """
    weights = {
        name: value for key, array in read_arrays(file).items() for name, value in rename_weight(key, array).items()
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    hints = json.loads((file.parent / "config.json").read_text(encoding="utf-8"))
    for name, values in (
        ("config", CONFIG),
        ("preprocessor_config", PREPROCESSOR),
        ("generation_config", generation(hints)),
        ("tokenizer_config", {"tokenizer_class": "WhisperTokenizer", "model_max_length": 448}),
    ):
        (folder / f"{name}.json").write_text(json.dumps(values, indent=2), encoding="utf-8")
    shutil.copyfile(file.parent / "tokenizer.json", folder / "tokenizer.json")


def generation(hints: dict[str, Any]) -> dict[str, Any]:
    """The generation config: special tokens and suppressed tokens."""
    return {
        "pad_token_id": END,
        "eos_token_id": END,
        "bos_token_id": START,
        "decoder_start_token_id": START,
        "no_timestamps_token_id": NO_TIMES,
        "forced_decoder_ids": [[1, NO_TIMES]],
        "is_multilingual": False,
        "max_initial_timestamp_index": 50,
        "max_length": 448,
        "return_timestamps": False,
        "begin_suppress_tokens": hints["suppress_ids_begin"],
        "suppress_tokens": hints["suppress_ids"],
        "alignment_heads": hints["alignment_heads"],
    }


def read_arrays(file: Path) -> dict[str, np.ndarray]:
    """The named arrays of a CTranslate2 file.

    The format (little-endian): u32 version, name, u32 revision, u32 number of arrays; then for each array its name, u8
    rank, u32 for each dimension, u8 type, u32 bytes, and the values. A name is a u16 length and NUL-terminated bytes.

    Raises:
        RecipeError: the file has an unsupported version.
    """
    content = memoryview(file.read_bytes())
    at = 0

    def take(form: str) -> int:
        nonlocal at
        (value,) = struct.unpack_from(f"<{form}", content, at)
        at += struct.calcsize(form)
        return int(value)

    def name() -> str:
        nonlocal at
        length = take("H")
        at += length
        return bytes(content[at - length : at - 1]).decode()

    version = take("I")
    if version != FILE_VERSION:
        raise RecipeError("", f"{file} is a CTranslate2 file of version {version}; supported is version {FILE_VERSION}")
    name(), take("I")
    found: dict[str, np.ndarray] = {}
    for _ in range(take("I")):
        key, rank = name(), take("B")
        shape = [take("I") for _ in range(rank)]
        kind, size = DTYPES[take("B")], take("I")
        found[key] = np.frombuffer(content[at : at + size], kind).reshape(shape)
        at += size
    return found


def rename_weight(key: str, array: np.ndarray) -> dict[str, Tensor]:
    """The tensors of `WhisperForConditionalGeneration` in one array of the file; empty if it contains no weights."""
    half, _, rest = key.partition("/")
    module, _, kind = rest.rpartition("/")
    if half not in ("encoder", "decoder") or kind not in PARAMETER_NAMES:
        return {}
    layer, _, part = module.partition("/")
    if layer.startswith("layer_") and part:
        prefix = f"model.{half}.layers.{layer.removeprefix('layer_')}"
        return _split_modules(prefix, STACKED_NAMES.get(part) or [LAYER_NAMES[part]], PARAMETER_NAMES[kind], array)
    if module not in MODEL_NAMES:
        return {}
    return _split_modules(f"model.{half}", [MODEL_NAMES[module]], PARAMETER_NAMES[kind], array)


def _split_modules(prefix: str, modules: list[str], kind: str, array: np.ndarray) -> dict[str, Tensor]:
    """One tensor for each module. Attention keys have no bias in Whisper; the zeros in the file are skipped."""
    pieces = np.split(array, len(modules))
    return {
        f"{prefix}.{module}.{kind}": torch.from_numpy(piece.copy())
        for module, piece in zip(modules, pieces, strict=True)
        if not (kind == "bias" and module.endswith("k_proj"))
    }
