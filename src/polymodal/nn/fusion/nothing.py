"""What stands in the place of a fusion where there is nothing to fuse."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from polymodal.core.types import Tokens, View
from polymodal.nn.fusion.base import Fusion, FusionOptions, vector_view


class Nothing(Fusion):
    """One learned token for every row of a model without inputs: a language model. No recipe names it."""

    def __init__(self, width: int) -> None:
        super().__init__(FusionOptions(name="nothing"), inputs=[], width=width)
        self.token = nn.Parameter(0.02 * torch.randn(width))

    def view(self, rows: int) -> View:
        """The view of so many rows, which counts in all of them."""
        there: Tensor = torch.ones(rows, dtype=torch.bool, device=self.token.device)
        return vector_view("joint", self.token.expand(rows, -1), there)

    def forward(self, tokens: dict[str, Tokens]) -> list[View]:
        raise TypeError("there are no inputs to fuse: view gives the view")
