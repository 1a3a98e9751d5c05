"""Feature-wise linear modulation."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from polymodal.core.errors import RecipeError, nearest
from polymodal.core.registry import register
from polymodal.core.types import Tokens, View
from polymodal.nn.fusion.base import Fusion, FusionOptions, token_view


@register
class FiLM(Fusion):
    """One input, the condition, scales and shifts every channel of every token of the others.

        (gamma, beta) = G h_c + g,   F' = ReLU((1 + gamma) * (W F + b) + beta)

    with h_c the mean of the condition's tokens and F a token of another input. Perez et al., "FiLM: Visual
    Reasoning with a General Conditioning Layer" (2018). The result is the sequence of all modulated tokens;
    those of the condition are not in it. Only the condition interacts with the others; with three inputs or
    more, the others do not interact among themselves.

    Missing inputs: without the condition gamma = beta = 0 (identity modulation). Tokens of other missing
    inputs are masked out, unless every other input is missing: then the condition modulates their learned
    "missing" embeddings and reaches the result that way. A single input conditions itself. Cost: 3 width^2
    parameters, linear in the number of tokens.

    Raises:
        RecipeError: `condition` is not one of the inputs.
    """

    class Options(FusionOptions):
        name: Literal["film"] = "film"
        condition: str | None = None
        """The input that conditions the others; the last input when silent."""

    def __init__(self, options: Options, *, inputs: list[str], width: int) -> None:
        super().__init__(options, inputs=inputs, width=width)
        self.condition = inputs[-1] if options.condition is None else options.condition
        if self.condition not in inputs:
            problem = f"there is no input {self.condition!r}; {nearest(self.condition, inputs)}"
            raise RecipeError("condition", problem)
        self.others = [name for name in inputs if name != self.condition] or [self.condition]
        self.project = nn.Linear(width, width)
        self.modulate = nn.Linear(width, 2 * width)

    def forward(self, tokens: dict[str, Tokens]) -> list[View]:
        condition = tokens[self.condition]
        modulation = self.modulate(condition.pooled()) * condition.present.unsqueeze(-1)
        gamma, beta = modulation.unsqueeze(1).chunk(2, dim=-1)
        others = [tokens[name] for name in self.others]
        features = self.project(torch.cat([other.features for other in others], dim=1))
        alone = ~torch.stack([other.present for other in others]).any(0)
        mask = torch.cat([o.mask & (o.present | alone).unsqueeze(1) for o in others], dim=1)
        return [token_view("joint", ((1 + gamma) * features + beta).relu(), mask, condition.present | ~alone)]
