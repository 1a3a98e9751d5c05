"""Frozen weight matrices prepacked for products with few rows, as in token-by-token generation."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from polymodal.runtime.cpu_kernels import can_prepack, prepack, prepacked_linear

#: Number of rows that the layout is optimized for: fewer are as fast, more are still correct.
ROWS = 8


class PrepackedLinear:
    """Copies of the frozen matrices of a network in the blocked layout of the oneDNN kernels.

    Generation reads each matrix once per token, so it should be limited by the memory bandwidth. The usual kernels of
    torch are slower for few rows: with 8 rows, a product took six times as long as with the prepacked matrix in fp32,
    and twice as long in bf16. Under autocast the copies have its dtype, so matrices are not converted for each token.

    Only frozen parameters are prepacked, because nothing changes them. The copies are made on first use and take as
    much memory as the matrices in that dtype.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self._copies: dict[tuple[int, torch.dtype], tuple[Tensor, Tensor]] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> PrepackedLinear:
        return PrepackedLinear(copy.deepcopy(self.network, memo))

    @contextmanager
    def enabled(self) -> Iterator[None]:
        """Inside, and without gradients, the frozen linear layers of the network on a CPU use the prepacked copies.

        If the processor has no kernel for the dtype, such as bf16 with only AVX2, the usual kernels are used.
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
        """The copy of a matrix `[out, in]`, made again if another tensor is at its address."""
        key = (weight.data_ptr(), kind)
        copy_ = self._copies.get(key)
        if copy_ is None or copy_[0].shape != weight.shape or copy_[0].stride() != weight.stride():
            copy_ = self._copies[key] = (weight, prepack(weight.to(kind), ROWS))
        return copy_[1]


def _matrix(module: Any) -> Tensor | None:
    """The frozen matrix `[out, in]` of a linear layer on a CPU; None for other modules."""
    if type(module) is nn.Linear:
        weight = module.weight.detach()
    elif type(module).__name__ == "Conv1D":  # GPT-2's, transposed
        weight = module.weight.detach().t()
    else:
        return None
    frozen = not module.weight.requires_grad and weight.device.type == "cpu" and weight.dtype == torch.float32
    return weight if frozen else None
