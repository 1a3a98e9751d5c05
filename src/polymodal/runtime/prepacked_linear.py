"""Matrices laid out for products with few rows, which is what writing token by token computes."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from polymodal.runtime.cpu_kernels import prepack, prepacked_linear, can_prepack

#: Rows that the layout is made for: fewer are as fast, more still right.
ROWS = 8


class PrepackedLinear:
    """Copies of a network's frozen matrices in the layout that oneDNN's kernels read without strides.

    Writing reads every matrix once for each token, so its speed is that of memory, if the kernel lets it. For few rows
    the usual kernels of torch do not: in fp32 a product of 8 rows took six times as long as one over the packed matrix,
    in bf16 twice. Under autocast the copies are in its format, so matrices are not converted anew for every token.

    Only parameters that do not learn are packed, since nothing writes into them. The copies take as much memory as the
    matrices do in that format; they are made when they are first needed.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self._held: dict[tuple[int, torch.dtype], tuple[Tensor, Tensor]] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> PrepackedLinear:
        return PrepackedLinear(copy.deepcopy(self.network, memo))

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Within, and without gradients, the network's frozen linear layers on a CPU use the packed copies.

        Where the processor has no kernel for the number format, bf16 on one with AVX2 alone, nothing is packed, and
        they compute as ever.
        """
        kind = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32
        if torch.is_grad_enabled() or not can_prepack(kind):
            yield
            return
        changed: list[Any] = []
        for module in self.network.modules():
            weight = _matrix(module)
            if weight is not None:
                module.forward = self._forward(module, weight, kind)
                changed.append(module)
        try:
            yield
        finally:
            for module in changed:
                del module.forward

    def _forward(self, module: Any, weight: Tensor, kind: torch.dtype) -> Any:
        packed = self._packed(weight, kind)
        bias = module.bias if module.bias is None else module.bias.to(kind)

        def forward(x: Tensor) -> Tensor:
            return prepacked_linear(x.to(kind), packed, bias)

        return forward

    def _packed(self, weight: Tensor, kind: torch.dtype) -> Tensor:
        """The copy of a matrix `[out, in]`, made anew if another tensor stands at its place."""
        key = (weight.data_ptr(), kind)
        held = self._held.get(key)
        if held is None or held[0].shape != weight.shape or held[0].stride() != weight.stride():
            held = self._held[key] = (weight, prepack(weight.to(kind), ROWS))
        return held[1]


def _matrix(module: Any) -> Tensor | None:
    """The frozen matrix `[out, in]` of a linear layer on a CPU; None for everything else."""
    if type(module) is nn.Linear:
        weight = module.weight.detach()
    elif type(module).__name__ == "Conv1D":  # GPT-2's, transposed
        weight = module.weight.detach().t()
    else:
        return None
    frozen = not module.weight.requires_grad and weight.device.type == "cpu" and weight.dtype == torch.float32
    return weight if frozen else None
