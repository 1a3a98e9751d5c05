"""Co-attention: a stream for each input, which attends to the streams of the other inputs."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from polymodal.core.registry import register
from polymodal.core.types import FusionOutput, Tokens
from polymodal.nn.fusion.token import ConcatReadout, ModalityEmbeddings, TokenFusion, TokenOptions
from polymodal.nn.layers.transformer import CrossAttentionBlock, TransformerBlock


@register
class CoAttention(TokenFusion):
    """A stream for each input; in each layer it attends to all the others, in parallel, then to itself.

        X_m' = Cross_m(X_m <- [X_n : n != m]) ;  X_m'' = Block_m(X_m') ;  z = W [pool X_1; ..; pool X_M] + b

    Lu et al., "ViLBERT", 2019; Tan and Bansal, "LXMERT", 2019; Dou et al., "An Empirical Study of Training End-to-End
    Vision-and-Language Transformers" (METER), 2022; generalized to any number of inputs. With one input it is a
    Transformer.

    No stream attends to a missing input. The stream of a missing input is its learned "missing" token, which attends to
    the present inputs.
    """

    class Options(TokenOptions):
        name: Literal["coattention"] = "coattention"
        gated: bool = False
        """Scale each cross-attention by a learned gate that is zero at initialization (Flamingo). The inputs do not
        attend to each other at first, which protects pretrained encoders."""

    def __init__(self, options: Options, *, inputs: list[str], width: int) -> None:
        super().__init__(options, inputs=inputs, width=width)
        self.typed = ModalityEmbeddings(inputs, width)
        self.layers = nn.ModuleList(CoAttentionLayer(options, len(inputs), width) for _ in range(options.num_layers))
        self.readout = ConcatReadout(len(inputs), width, width)

    def forward(self, tokens: dict[str, Tokens]) -> list[FusionOutput]:
        streams, masks = self.typed(tokens), self.typed.present_masks(tokens)
        own = [tokens[name].mask for name in self.inputs]
        for layer in self.layers:
            streams = layer(streams, masks, own)
        return [self.readout(streams, own, self.presence(tokens).any(1))]


class CoAttentionLayer(nn.Module):
    """One layer of every stream."""

    def __init__(self, options: CoAttention.Options, streams: int, width: int) -> None:
        super().__init__()
        heads, dropout = options.num_heads, options.dropout
        self.cross = nn.ModuleList(
            CrossAttentionBlock(width, heads, dropout, gated=options.gated)
            for _ in range(streams if streams > 1 else 0)
        )
        self.blocks = nn.ModuleList(TransformerBlock(width, heads, dropout) for _ in range(streams))

    def forward(self, streams: list[Tensor], masks: list[Tensor], own: list[Tensor]) -> list[Tensor]:
        """One layer of all streams.

        masks: `[batch, length_m]`, the positions that other streams attend to
        own: `[batch, length_m]`, the positions that a stream attends to in itself
        """
        crossed = list(streams)
        for m, cross in enumerate(self.cross):
            context = torch.cat(streams[:m] + streams[m + 1 :], dim=1)
            crossed[m] = cross(streams[m], context, torch.cat(masks[:m] + masks[m + 1 :], dim=1))
        return [block(x, mask) for block, x, mask in zip(self.blocks, crossed, own, strict=True)]
