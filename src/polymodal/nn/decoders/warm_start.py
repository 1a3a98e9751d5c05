"""Initialization of a Transformer decoder from the decoder of a saved model."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

Weights = Mapping[str, Tensor]


def warm_start_state(own: Weights, saved: Weights, memory_token: Tensor | None) -> dict[str, Tensor]:
    """The initial state dict of a decoder from a saved decoder of the same shape.

    A language model attends to one constant token instead of inputs. In this case the attention to the memory keeps its
    random initialization, except for its output layer: its weight is zero and its bias is the constant contribution in
    the language model. The new decoder therefore equals that language model at first, and learns to attend to its
    inputs.

    own, saved: state dicts of the new and of the saved decoder
    memory_token: `[width]`, that constant token; None if the saved decoder attends to inputs
    """
    loaded = {name: tensor for name, tensor in saved.items() if name in own and not name.startswith("ctc_head.")}
    if memory_token is not None:
        suffix = "memory_key_value.weight"
        for block in [name.removesuffix(suffix) for name in loaded if name.endswith(suffix)]:
            loaded |= _constant_memory_attention(loaded, block, memory_token, own)
    return {**own, **loaded}


def _constant_memory_attention(loaded: Weights, block: str, token: Tensor, own: Weights) -> dict[str, Tensor]:
    """The memory attention of one block that adds the constant which `token` contributes in the saved block."""
    names = ("memory_norm", "memory_query", "memory_key_value")
    initial = {f"{block}{name}.{kind}": own[f"{block}{name}.{kind}"] for name in names for kind in ("weight", "bias")}
    width = len(token)
    weight, bias = (loaded[f"{block}memory_key_value.{kind}"][width:] for kind in ("weight", "bias"))
    output = f"{block}memory_out."
    constant = functional.linear(
        functional.linear(token, weight, bias), loaded[output + "weight"], loaded[output + "bias"]
    )
    return initial | {output + "weight": torch.zeros_like(own[output + "weight"]), output + "bias": constant}
