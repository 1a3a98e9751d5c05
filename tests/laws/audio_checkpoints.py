"""Tiny audio checkpoints with random weights of every kind, made by transformers itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch
import transformers

from laws.tiny import final_folder

LAYERS: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
CONVOLUTIONS: dict[str, Any] = {
    "conv_dim": [8, 8, 8],
    "conv_kernel": [10, 3, 2],
    "conv_stride": [5, 4, 4],
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
    "num_feat_extract_layers": 3,
}
GROUP: dict[str, Any] = {**LAYERS, **CONVOLUTIONS, "feat_extract_norm": "group"}
LAYER: dict[str, Any] = {**LAYERS, **CONVOLUTIONS, "feat_extract_norm": "layer", "do_stable_layer_norm": True}


def _whisper() -> tuple[Any, Any]:
    config = transformers.WhisperConfig(
        vocab_size=16,
        d_model=16,
        encoder_layers=2,
        encoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_layers=1,
        decoder_attention_heads=2,
        decoder_ffn_dim=32,
        max_source_positions=100,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )
    return transformers.WhisperModel(config), transformers.WhisperFeatureExtractor(chunk_length=2)


def _ast() -> tuple[Any, Any]:
    config = transformers.ASTConfig(
        **LAYERS, patch_size=16, frequency_stride=10, time_stride=10, max_length=128, num_mel_bins=64
    )
    return transformers.ASTModel(config), transformers.ASTFeatureExtractor(max_length=128, num_mel_bins=64)


def _clap(fusion: bool) -> tuple[Any, Any]:
    audio = {
        "spec_size": 64,
        "num_mel_bins": 16,
        "patch_size": 4,
        "patch_stride": [4, 4],
        "patch_embeds_hidden_size": 8,
        "hidden_size": 16,
        "depths": [1, 1],
        "num_attention_heads": [2, 2],
        "window_size": 4,
        "projection_dim": 12,
        "enable_fusion": fusion,
        "aff_block_r": 2,
    }
    text = {**LAYERS, "vocab_size": 16, "projection_dim": 12}
    config = transformers.ClapConfig(audio_config=audio, text_config=text, projection_dim=12)
    extractor = transformers.ClapFeatureExtractor(
        feature_size=16, max_length_s=2, truncation="fusion" if fusion else "rand_trunc"
    )
    return transformers.ClapModel(config), extractor


def _waves(name: str, masks: bool = False, **options: Any) -> tuple[Any, Any]:
    config = getattr(transformers, f"{name}Config")(**options)
    extractor = transformers.Wav2Vec2FeatureExtractor(return_attention_mask=masks)
    return getattr(transformers, f"{name}Model")(config), extractor


KINDS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "whisper": _whisper,
    "ast": _ast,
    "clap": lambda: _clap(fusion=False),
    "clap-fused": lambda: _clap(fusion=True),
    "wav2vec2": lambda: _waves("Wav2Vec2", **GROUP),
    "wav2vec2-masked": lambda: _waves("Wav2Vec2", masks=True, **LAYER),
    "wav2vec2-adapter": lambda: _waves("Wav2Vec2", masks=True, **LAYER, add_adapter=True, num_adapter_layers=1),
    "wav2vec2-conformer": lambda: _waves(
        "Wav2Vec2Conformer", masks=True, **{**LAYER, "conv_depthwise_kernel_size": 3, "position_embeddings_type": None}
    ),
    "hubert": lambda: _waves("Hubert", **GROUP),
    "hubert-masked": lambda: _waves("Hubert", masks=True, **LAYER),
    "wavlm": lambda: _waves("WavLM", **GROUP),
    "wavlm-masked": lambda: _waves("WavLM", masks=True, **LAYER),
    "data2vec": lambda: _waves(
        "Data2VecAudio",
        masks=True,
        **{**LAYERS, **CONVOLUTIONS, "num_conv_pos_embeddings": 2, "conv_pos_kernel_size": 5},
    ),
}


@cache
def folder(kind: str) -> str:
    """Where the tiny checkpoint is, made once; every number in it is drawn, buffers of statistics too."""
    made = Path(mkdtemp(prefix=f"tiny-{kind}-"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, extractor = KINDS[kind]()
        with torch.no_grad():
            for name, tensor in model.state_dict().items():
                if name.endswith(("running_mean", "running_var")):
                    tensor.uniform_(0.5, 1.5)
    model.save_pretrained(made)
    extractor.save_pretrained(made)
    return final_folder(made, f"audio-{kind}")
