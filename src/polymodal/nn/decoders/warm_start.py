"""The weights of a Transformer that writes in one that goes on from it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

Weights = Mapping[str, Tensor]


def warm_start_state(own: Weights, saved: Weights, memory: Tensor | None) -> dict[str, Tensor]:
    """The state of a writer that begins as a saved one of the same shape.

    A language model had nothing to attend to but one token: there the writer's own attention to the memory stays as it
    was drawn, but for its last layer, which begins at zero with the bias that gives what the language model added. So
    the writer begins as that language model, and opens to its inputs as it learns.

    own, saved: the state of the new writer and of the saved one
    memory: `[width]`, that one token; None where the saved writer reads inputs
    """
    taken = {name: tensor for name, tensor in saved.items() if name in own and not name.startswith("frames.")}
    if memory is not None:
        read = "memory_key_value.weight"
        for block in [name.removesuffix(read) for name in taken if name.endswith(read)]:
            taken |= _opening(taken, block, memory, own)
    return {**own, **taken}


def _opening(found: Weights, block: str, token: Tensor, own: Weights) -> dict[str, Tensor]:
    """The attention to the memory of one block over a language model, which read the one `token`."""
    names = ("memory_norm", "memory_query", "memory_key_value")
    fresh = {f"{block}{name}.{kind}": own[f"{block}{name}.{kind}"] for name in names for kind in ("weight", "bias")}
    width = len(token)
    weight, bias = (found[f"{block}memory_key_value.{kind}"][width:] for kind in ("weight", "bias"))
    last = f"{block}memory_out."
    added = functional.linear(functional.linear(token, weight, bias), found[last + "weight"], found[last + "bias"])
    return fresh | {last + "weight": torch.zeros_like(own[last + "weight"]), last + "bias": added}
