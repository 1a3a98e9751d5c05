"""Directional cross-modal Transformers (MulT)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from polymodal.core.options import sized
from polymodal.core.registry import register
from polymodal.core.types import Tokens, View
from polymodal.nn.fusion.token import ConcatReadout, TokenFusion, TokenOptions
from polymodal.nn.layers.transformer import CrossBlock, TransformerBlock


@register
class MulT(TokenFusion):
    """For each ordered pair of inputs a stack of cross-attention; what each input gathered goes through
    self-attention.

        Z_{b->a} = Cross_L(.. Cross_1(X_a <- X_b) .. <- X_b) ;  S_a = Blocks_a([Z_{b->a} : b != a], over
        channels) z = W [pool S_1; ..; pool S_M] + b

    Tsai et al., "Multimodal Transformer for Unaligned Multimodal Language Sequences", 2019. The paper reads
    the last token of S_a; here the mean of the real tokens is read, since not every input is a sequence in
    time. Costs M (M - 1) stacks. With one input, S_a = Blocks_a(X_a).

    A missing input b gives nothing to Z_{b->a}. The own stream of a missing input a is its learned "missing"
    token, which gathers from the inputs that are there.
    """

    class Options(TokenOptions):
        name: Literal["mult"] = "mult"
        memory: int = sized(1, 2, 3, ge=0, le=48)
        """Layers of self-attention over what each input gathered; 0 for none."""

    def __init__(self, options: Options, *, inputs: list[str], width: int) -> None:
        super().__init__(options, inputs=inputs, width=width)
        heads, dropout, count = options.heads, options.dropout, len(inputs)
        gathered = width * max(count - 1, 1)
        self.cross = nn.ModuleDict(
            {
                f"{source}_to_{target}": nn.ModuleList(CrossBlock(width, heads, dropout) for _ in range(options.layers))
                for target in range(count)
                for source in range(count)
                if source != target
            }
        )
        self.memory = nn.ModuleList(
            nn.ModuleList(TransformerBlock(gathered, heads, dropout) for _ in range(options.memory)) for _ in inputs
        )
        self.readout = ConcatReadout(count, gathered, width)

    def forward(self, tokens: dict[str, Tokens]) -> list[View]:
        parts = [tokens[name] for name in self.inputs]
        streams = []
        for target, memory in enumerate(self.memory):
            x = self._gather(target, parts)
            for block in memory:  # type: ignore[attr-defined]
                x = block(x, parts[target].mask)
            streams.append(x)
        return [self.readout(streams, [part.mask for part in parts], self.presence(tokens).any(1))]

    def _gather(self, target: int, parts: list[Tokens]) -> torch.Tensor:
        """What one input reads from each other one, side by side, `[batch, length, width * (M - 1)]`."""
        gathered = []
        for source, part in enumerate(parts):
            if source == target:
                continue
            x, mask = parts[target].features, part.mask & part.present.unsqueeze(1)
            for block in self.cross[f"{source}_to_{target}"]:  # type: ignore[attr-defined]
                x = block(x, part.features, mask)
            gathered.append(x)
        return torch.cat(gathered, dim=-1) if gathered else parts[target].features
