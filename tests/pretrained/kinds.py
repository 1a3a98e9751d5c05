"""Tiny networks of every supported architecture, and inputs for them."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from polymodal.pretrained.backbone import Backbone
from polymodal.pretrained.checkpoint_config import CheckpointConfig


class Kind(NamedTuple):
    """part: the part it encodes; config: values besides `model_type`; inputs: name and shape of one item, or of ids"""

    part: str
    config: dict[str, Any]
    name: str
    shape: tuple[int, ...]
    masked: bool = False


SIZES = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
WORDS = {"vocab_size": 50, "max_position_embeddings": 40, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
PATCHES = {**SIZES, "image_size": 32, "patch_size": 16}
MIXED = ("sliding", "full", "sliding")
GROUPED = {**SIZES, "num_key_value_heads": 2, "head_dim": 8, **WORDS}
BOTH_WAYS = {
    "d_model": 16,
    "encoder_layers": 3,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
}
PAIR = {
    "text_config": {**SIZES, **WORDS, "eos_token_id": 49, "projection_dim": 12},
    "vision_config": {**PATCHES, "projection_dim": 12},
    "projection_dim": 12,
}
WINDOWS = {"image_size": 32, "patch_size": 2, "embed_dim": 8, "depths": [1, 2, 1], "num_heads": [2, 2, 4]}
STAGES = {"hidden_sizes": [8, 12, 16], "depths": [1, 2, 1]}
WAVES = {
    **SIZES,
    "conv_dim": [8, 8],
    "conv_stride": [5, 4],
    "conv_kernel": [10, 8],
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
}
HEARD = {
    "patch_embeds_hidden_size": 8,
    "hidden_size": 32,
    "spec_size": 64,
    "num_mel_bins": 16,
    "depths": [1, 1, 1],
    "num_attention_heads": [2, 2, 2],
    "window_size": 4,
    "patch_stride": 4,
    "projection_dim": 12,
}
SOUND_PAIR = {
    "text_config": {**SIZES, **WORDS, "projection_dim": 12},
    "audio_config": HEARD,
    "projection_dim": 12,
}
CLIPS = {**SIZES, "image_size": 32, "num_frames": 4}


def text(config: dict[str, Any]) -> Kind:
    return Kind("text", config, "input_ids", (7,), masked=True)


def image(config: dict[str, Any], side: int = 32) -> Kind:
    return Kind("image", config, "pixel_values", (3, side, side))


def sound(config: dict[str, Any], name: str, *shape: int, masked: bool = False) -> Kind:
    return Kind("audio", config, name, shape, masked)


def clip(config: dict[str, Any]) -> Kind:
    return Kind("video", config, "pixel_values", (4, 3, 32, 32))


#: By `model_type`, and where a network is named twice a word after a colon.
KINDS = {
    "bert": text({**SIZES, **WORDS}),
    "modernbert": text({**SIZES, **WORDS, "global_attn_every_n_layers": 2, "local_attention": 4}),
    "roberta": text({**SIZES, **WORDS}),
    "distilbert": text({"vocab_size": 50, "dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 32}),
    "mpnet": text({**SIZES, **WORDS}),
    "electra": text({**SIZES, **WORDS, "embedding_size": 8}),
    "deberta-v2": text({**SIZES, **WORDS, "relative_attention": True, "pos_att_type": ["c2p"], "conv_kernel_size": 3}),
    "t5": text({"vocab_size": 50, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 3, "num_heads": 2}),
    "bart": text({**WORDS, **BOTH_WAYS}),
    "gpt2": text({"n_embd": 16, "n_layer": 3, "n_head": 2, "n_positions": 40, **WORDS}),
    "llama": text(GROUPED),
    "qwen3": text(GROUPED),
    "gemma3_text": text({**GROUPED, "sliding_window": 4, "layer_types": [f"{kind}_attention" for kind in MIXED]}),
    "clip:text": text(PAIR),
    "siglip:text": text(PAIR),
    "clap:text": text(SOUND_PAIR),
    "vit": image(PATCHES),
    "deit": image(PATCHES),
    "beit": image(PATCHES),
    "dinov2": image(PATCHES),
    "clip:image": image(PAIR),
    "siglip:image": image(PAIR),
    "convnext": image({"hidden_sizes": [8, 12, 16, 20], "depths": [1, 1, 2, 1]}, 64),
    "convnextv2": image({"hidden_sizes": [8, 12, 16, 20], "depths": [1, 1, 2, 1]}, 64),
    "swin": image({**WINDOWS, "window_size": 4}),
    "swinv2": image({**WINDOWS, "window_size": 4}),
    "efficientnet": image(
        {"image_size": 64, "width_coefficient": 0.25, "depth_coefficient": 0.3, "hidden_dim": 320}, 64
    ),
    "efficientnet_lite": image(
        {"stages": [[1, 3, 1, 1, 8], [2, 3, 2, 6, 12], [1, 5, 2, 6, 16]], "stem": 8, "hidden_size": 20}
    ),
    "resnet": image({**STAGES, "embedding_size": 8}, 64),
    "whisper": sound(
        {**BOTH_WAYS, **WORDS, "decoder_start_token_id": 1, "num_mel_bins": 8, "max_source_positions": 20},
        "input_features",
        8,
        40,
    ),
    "wav2vec2:layer": sound(
        {**WAVES, "feat_extract_norm": "layer", "do_stable_layer_norm": True}, "input_values", 800, masked=True
    ),
    "wav2vec2:group": sound(WAVES, "input_values", 800),
    "hubert": sound(WAVES, "input_values", 800),
    "wavlm": sound(WAVES, "input_values", 800),
    "audio-spectrogram-transformer": sound(
        {**SIZES, "patch_size": 4, "frequency_stride": 2, "time_stride": 2, "max_length": 16, "num_mel_bins": 8},
        "input_values",
        16,
        8,
    ),
    "clap:audio": sound(SOUND_PAIR, "input_features", 1, 256, 16),
    "videomae": clip({**CLIPS, "patch_size": 16, "tubelet_size": 2}),
    "vivit": clip({**CLIPS, "tubelet_size": [2, 16, 16]}),
}


def card(name: str) -> CheckpointConfig:
    return CheckpointConfig(name, "", "", "", {"config": {"model_type": name.split(":")[0], **KINDS[name].config}})


def backbone(name: str) -> Backbone:
    """With random weights large enough that every part of the network affects the output."""
    found = Backbone(card(name), KINDS[name].part).eval()
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=draw) + (parameter.ndim == 1))
    return found


def inputs(name: str, *, blank: bool = False) -> dict[str, Tensor]:
    """Three items of different lengths, if they have one; blank: without content."""
    kind, draw = KINDS[name], torch.Generator().manual_seed(1)
    if kind.name == "input_ids":
        content = torch.randint(5, 40, (3, *kind.shape), generator=draw)
    else:
        content = torch.randn(3, *kind.shape, generator=draw)
    length = torch.tensor([kind.shape[0], kind.shape[0] * 3 // 5, kind.shape[0] * 2 // 5])
    if blank:
        content = torch.zeros_like(content)
    if kind.name == "input_ids":
        content[torch.arange(3), length - 1] = 49  # the end, where CLIP looks for its summary
    found = {kind.name: content}
    if kind.masked:
        found["attention_mask"] = (torch.arange(kind.shape[0]) < length[:, None]).long()
    return found
