"""The fusion of a model without inputs, e.g. a language model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from polymodal.core.types import FusionOutput, Tokens
from polymodal.nn.fusion.base import Fusion, FusionOptions, vector_output


class UnconditionalInput(Fusion):
    """One learned token for every row. It is built by the network and is not registered for recipes."""

    def __init__(self, width: int) -> None:
        super().__init__(FusionOptions(name="unconditional"), inputs=[], width=width)
        self.token = nn.Parameter(0.02 * torch.randn(width))

    def output(self, rows: int) -> FusionOutput:
        """The fusion output for this many rows, with weight 1 in each."""
        present: Tensor = torch.ones(rows, dtype=torch.bool, device=self.token.device)
        return vector_output("joint", self.token.expand(rows, -1), present)

    def forward(self, tokens: dict[str, Tokens]) -> list[FusionOutput]:
        raise TypeError("a model without inputs has nothing to fuse; call output(rows)")
