"""Conversion of EfficientNet-lite0 from its package (a PyTorch state dict) to a transformers folder."""

from __future__ import annotations

import json
import re
from pathlib import Path

import torch
from safetensors.torch import save_file

from polymodal.runtime.compute import CPU

NORM_NAMES = {"_bn0": "expand_norm", "_bn1": "depthwise_norm", "_bn2": "project_norm"}
CONVOLUTION_NAMES = {"_expand_conv": "expand", "_depthwise_conv": "depthwise", "_project_conv": "project"}
MODEL_NAMES = {"_conv_stem": "stem", "_bn0": "stem_norm", "_conv_head": "head", "_bn1": "head_norm"}

#: The original evaluation: (pixels - 127) / 128 (not the mean and standard deviation of ImageNet), center crop of 7/8,
#: bicubic.
PREPROCESSOR = {
    "image_processor_type": "ViTImageProcessor",
    "do_convert_rgb": True,
    "do_resize": True,
    "size": {"shortest_edge": 256},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [127 / 255] * 3,
    "image_std": [128 / 255] * 3,
}


def convert(file: Path, folder: Path) -> None:
    """Write config.json, model.safetensors and preprocessor_config.json of the weights in `file` into `folder`.

    The classifier of the 1000 ImageNet classes is left out.
    """
    published = torch.load(file, map_location=CPU, weights_only=True)
    weights = {
        rename_weight(name): value.contiguous() for name, value in published.items() if not name.startswith("_fc.")
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = {"model_type": "efficientnet_lite", "architectures": ["EfficientNetLiteModel"]}
    for name, values in (("config", config), ("preprocessor_config", PREPROCESSOR)):
        (folder / f"{name}.json").write_text(json.dumps(values, indent=2), encoding="utf-8")


def rename_weight(name: str) -> str:
    """Weight name in the package -> weight name in `EfficientNetLiteModel`."""
    block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
    if block:
        return f"blocks.{block[1]}.{ {**NORM_NAMES, **CONVOLUTION_NAMES}[block[2]] }.{block[3]}"
    module, _, parameter = name.partition(".")
    return f"{MODEL_NAMES[module]}.{parameter}"
