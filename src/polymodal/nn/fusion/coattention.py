"""Co-attention: a stream for each input, each reading the others."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from polymodal.core.registry import register
from polymodal.core.types import Tokens, View
from polymodal.nn.fusion.token import ConcatReadout, TokenFusion, TokenOptions, TypedTokens
from polymodal.nn.layers.transformer import CrossBlock, TransformerBlock


@register
class CoAttention(TokenFusion):
    """A stream for each input; in each layer it reads all the others, in parallel, then itself.

        X_m' = Cross_m(X_m <- [X_n : n != m]) ;  X_m'' = Block_m(X_m') ;  z = W [pool X_1; ..; pool X_M] + b

    Lu et al., "ViLBERT", 2019; Tan and Bansal, "LXMERT", 2019; Dou et al., "An Empirical Study of Training
    End-to-End Vision-and-Language Transformers" (METER), 2022; here for any number of inputs. With one input,
    a Transformer.

    No stream reads a missing input. The own stream of a missing input is its learned "missing" token, which
    reads the inputs that are there.
    """

    class Options(TokenOptions):
        name: Literal["coattention"] = "coattention"
        gate: bool = False
        """Open each cross-attention by a learned gate that starts closed (Flamingo): at first the inputs
        do not see each other, which is safe in front of pretrained encoders."""

    def __init__(self, options: Options, *, inputs: list[str], width: int) -> None:
        super().__init__(options, inputs=inputs, width=width)
        self.typed = TypedTokens(inputs, width)
        self.layers = nn.ModuleList(CoAttentionLayer(options, len(inputs), width) for _ in range(options.layers))
        self.readout = ConcatReadout(len(inputs), width, width)

    def forward(self, tokens: dict[str, Tokens]) -> list[View]:
        streams, masks = self.typed(tokens), self.typed.present_masks(tokens)
        own = [tokens[name].mask for name in self.inputs]
        for layer in self.layers:
            streams = layer(streams, masks, own)
        return [self.readout(streams, own, self.presence(tokens).any(1))]


class CoAttentionLayer(nn.Module):
    """One layer of every stream."""

    def __init__(self, options: CoAttention.Options, streams: int, width: int) -> None:
        super().__init__()
        heads, dropout = options.heads, options.dropout
        self.cross = nn.ModuleList(
            CrossBlock(width, heads, dropout, gate=options.gate) for _ in range(streams if streams > 1 else 0)
        )
        self.blocks = nn.ModuleList(TransformerBlock(width, heads, dropout) for _ in range(streams))

    def forward(self, streams: list[Tensor], masks: list[Tensor], own: list[Tensor]) -> list[Tensor]:
        """`masks`: what others read of each stream, `own`: what it reads of itself, `[batch, length_m]`."""
        crossed = list(streams)
        for m, cross in enumerate(self.cross):
            context = torch.cat(streams[:m] + streams[m + 1 :], dim=1)
            crossed[m] = cross(streams[m], context, torch.cat(masks[:m] + masks[m + 1 :], dim=1))
        return [block(x, mask) for block, x, mask in zip(self.blocks, crossed, own, strict=True)]
