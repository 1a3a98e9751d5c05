"""Feature-wise linear modulation."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from polymodal.core.errors import RecipeError, did_you_mean
from polymodal.core.registry import register
from polymodal.core.types import FusionOutput, Tokens
from polymodal.nn.fusion.base import Fusion, FusionOptions, token_output


@register
class FiLM(Fusion):
    """One input, the condition, scales and shifts every channel of every token of the other inputs.

        (gamma, beta) = G h_c + g,   F' = ReLU((1 + gamma) * (W F + b) + beta)

    h_c is the mean of the condition's tokens, and F is a token of another input. Perez et al., "FiLM: Visual Reasoning
    with a General Conditioning Layer" (2018). The result is the sequence of all modulated tokens, without those of the
    condition. Only the condition interacts with the other inputs; with three or more inputs, the others do not interact
    with each other.

    Missing inputs: without the condition gamma = beta = 0 (identity modulation). Tokens of other missing inputs are
    masked out, unless every other input is missing: then the condition modulates their learned "missing" embeddings and
    affects the result through them. A single input conditions itself. Cost: 3 width^2 parameters, linear in the number
    of tokens.

    Raises:
        RecipeError: `conditioning_input` is not one of the inputs.
    """

    class Options(FusionOptions):
        name: Literal["film"] = "film"
        conditioning_input: str | None = None
        """The input that modulates the others. Default: the last input."""

    def __init__(self, options: Options, *, inputs: list[str], width: int) -> None:
        super().__init__(options, inputs=inputs, width=width)
        self.condition = inputs[-1] if options.conditioning_input is None else options.conditioning_input
        if self.condition not in inputs:
            problem = f"unknown input {self.condition!r}; {did_you_mean(self.condition, inputs)}"
            raise RecipeError("conditioning_input", problem)
        self.others = [name for name in inputs if name != self.condition] or [self.condition]
        self.project = nn.Linear(width, width)
        self.modulate = nn.Linear(width, 2 * width)

    def forward(self, tokens: dict[str, Tokens]) -> list[FusionOutput]:
        condition = tokens[self.condition]
        modulation = self.modulate(condition.pooled()) * condition.present.unsqueeze(-1)
        gamma, beta = modulation.unsqueeze(1).chunk(2, dim=-1)  # [batch, 1, width]
        others = [tokens[name] for name in self.others]
        features = self.project(torch.cat([other.features for other in others], dim=1))  # [batch, length, width]
        only_condition = ~torch.stack([other.present for other in others]).any(0)  # [batch]
        mask = torch.cat([o.mask & (o.present | only_condition).unsqueeze(1) for o in others], dim=1)
        return [
            token_output("joint", ((1 + gamma) * features + beta).relu(), mask, condition.present | ~only_condition)
        ]
