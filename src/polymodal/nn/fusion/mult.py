"""Directional cross-modal Transformers (MulT)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from polymodal.core.options import sized_field
from polymodal.core.registry import register
from polymodal.core.types import FusionOutput, Tokens
from polymodal.nn.fusion.token import ConcatReadout, TokenFusion, TokenOptions
from polymodal.nn.layers.transformer import CrossAttentionBlock, TransformerBlock


@register
class MulT(TokenFusion):
    """Cross-attention for each ordered pair of inputs, then self-attention over the results of each input.

        Z_{b->a} = Cross_L(.. Cross_1(X_a <- X_b) .. <- X_b) ;  S_a = Blocks_a([Z_{b->a} : b != a], over channels)
        z = W [pool S_1; ..; pool S_M] + b

    Tsai et al., "Multimodal Transformer for Unaligned Multimodal Language Sequences", 2019. The paper reads the last
    token of S_a. Here the mean of the real tokens is used, because not every input is a time series. Cost: M (M - 1)
    stacks. With one input, S_a = Blocks_a(X_a).

    A missing input b contributes nothing to Z_{b->a}. The stream of a missing input a is its learned "missing" token,
    which attends to the present inputs.
    """

    class Options(TokenOptions):
        name: Literal["mult"] = "mult"
        num_memory_layers: int = sized_field(1, 2, 3, ge=0, le=48)
        """Number of self-attention layers after cross-attention (the "memory" of the paper); 0 for none."""

    def __init__(self, options: Options, *, inputs: list[str], width: int) -> None:
        super().__init__(options, inputs=inputs, width=width)
        heads, dropout, count = options.num_heads, options.dropout, len(inputs)
        gathered = width * max(count - 1, 1)
        self.cross = nn.ModuleDict(
            {
                f"{source}_to_{target}": nn.ModuleList(
                    CrossAttentionBlock(width, heads, dropout) for _ in range(options.num_layers)
                )
                for target in range(count)
                for source in range(count)
                if source != target
            }
        )
        self.memory = nn.ModuleList(
            nn.ModuleList(TransformerBlock(gathered, heads, dropout) for _ in range(options.num_memory_layers))
            for _ in inputs
        )
        self.readout = ConcatReadout(count, gathered, width)

    def forward(self, tokens: dict[str, Tokens]) -> list[FusionOutput]:
        parts = [tokens[name] for name in self.inputs]
        streams: list[torch.Tensor] = []  # [batch, length_m, width * (M - 1)] each
        for target, memory in enumerate(self.memory):
            x = self._gather(target, parts)
            for block in memory:  # type: ignore[attr-defined]
                x = block(x, parts[target].mask)
            streams.append(x)
        return [self.readout(streams, [part.mask for part in parts], self.presence(tokens).any(1))]

    def _gather(self, target: int, parts: list[Tokens]) -> torch.Tensor:
        """The cross-attention results of one target over all sources, `[batch, length, width * (M - 1)]`."""
        gathered = []
        for source, part in enumerate(parts):
            if source == target:
                continue
            x, mask = parts[target].features, part.mask & part.present.unsqueeze(1)
            for block in self.cross[f"{source}_to_{target}"]:  # type: ignore[attr-defined]
                x = block(x, part.features, mask)
            gathered.append(x)
        return torch.cat(gathered, dim=-1) if gathered else parts[target].features
