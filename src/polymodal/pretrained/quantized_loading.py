"""Weights of a checkpoint with quantized layers, read one tensor at a time, so that memory never holds all in fp32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from safetensors import safe_open
from torch import Tensor

from polymodal.pretrained.quantized_linear import quantize_weight


def read_quantized(
    files: Sequence[Path],
    part: Mapping[str, Tensor],
    names: Mapping[str, Sequence[str]],
    prefix: str,
    quantized: Mapping[str, Literal["int8", "nf4"]],
) -> dict[str, Tensor] | None:
    """The weights of a part of a checkpoint by parameter name, with codes and scales in place of the weights of the
    quantized layers. Other weights are in fp32.

    None if the files do not hold every tensor under its name and with its shape: transformers then has to convert them.

    files: the safetensors files of the checkpoint
    part: the weights of the network by parameter name, on the meta device
    names: their names in the network of all parts; several names for a weight that layers share
    prefix: the first part of names that some files leave out
    quantized: the number format of each quantized layer of the part
    """
    held = {key: file for file in files for key in _keys(file)}
    found: dict[str, Tensor] = {}
    read: dict[str, Tensor] = {}
    for name, own in names.items():
        places = [place for one in own for place in (one, one.removeprefix(prefix), prefix + one) if place in held]
        if not places:
            return None
        layer, _, kind = name.rpartition(".")
        key = places[0]
        if key not in read:
            with safe_open(held[key], framework="pt") as file:  # closed each time: mapped pages count as memory, too
                if tuple(file.get_slice(key).get_shape()) != tuple(part[name].shape):
                    return None
                tensor = file.get_tensor(key).float()
            if kind == "weight" and layer in quantized:
                codes, scale = quantize_weight(tensor, quantized[layer])
                found |= {f"{layer}.codes": codes, f"{layer}.scale": scale}
                continue
            read[key] = copy_weight(tensor)
        found[name] = read[key]
    return found


def copy_weight(tensor: Tensor) -> Tensor:
    """A copy in memory; convolutions over images in channels-last format, as in `Network`."""
    layout = torch.channels_last if tensor.ndim == 4 else torch.contiguous_format
    return tensor.detach().clone(memory_format=layout)


def _keys(file: Path) -> list[str]:
    with safe_open(file, framework="pt") as opened:
        return list(opened.keys())
