"""Attention bottlenecks (MBT)."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from polymodal.core.errors import RecipeError
from polymodal.core.options import sized_field
from polymodal.core.registry import register
from polymodal.core.types import FusionOutput, Tokens
from polymodal.nn.fusion.token import TokenFusion, TokenOptions
from polymodal.nn.layers.transformer import TransformerBlock

#: Initial standard deviation of the learned tokens; with 0.02 or 1, a synthetic exclusive-or took far longer to learn.
INIT_STD = 0.2


@register
class Bottleneck(TokenFusion):
    """A Transformer for each input; from `fusion_layer` on, they exchange information only through a few shared tokens.

        l <  F: X_m = Block_m([cls_m; X_m])
        l >= F: [X_m; z^m] = Block_m([X_m; z]) ;  z = mean over present m of z^m
        result: (LN(mean over present m of cls_m) + mean of LN(z)) / 2

    Nagrani et al., "Attention Bottlenecks for Multimodal Fusion", 2021. The paper reads only the class tokens. The
    shared tokens are read too because shallow models then learned a synthetic exclusive-or about twice as fast. A
    missing input is left out of both means: it neither updates the shared tokens nor contributes to the result. A row
    without any input keeps the initial shared tokens, and its result is constant.

    Raises:
        RecipeError: no layer follows `fusion_layer` that could read the shared tokens.
    """

    class Options(TokenOptions):
        name: Literal["bottleneck"] = "bottleneck"
        num_layers: int = sized_field(2, 4, 6, ge=2, le=48)
        """Number of Transformer layers."""
        fusion_layer: int = sized_field(0, 2, 3, ge=0)
        """Index (from 0) of the first layer with shared tokens; at most `num_layers` - 2, because a later layer must
        read them."""
        num_bottlenecks: int = Field(default=4, ge=1, le=256)
        """Number of shared tokens."""

    def __init__(self, options: Options, *, inputs: list[str], width: int) -> None:
        super().__init__(options, inputs=inputs, width=width)
        if options.fusion_layer > options.num_layers - 2:
            problem = (
                f"with {options.num_layers} layers it is at most {options.num_layers - 2}, not {options.fusion_layer}"
            )
            raise RecipeError("fusion_layer", problem)
        self.fusion_layer, self.bottlenecks = options.fusion_layer, options.num_bottlenecks
        self.cls = nn.Parameter(torch.randn(len(inputs), 1, 1, width) * INIT_STD)
        self.shared = nn.Parameter(torch.randn(1, options.num_bottlenecks, width) * INIT_STD)
        self.layers = nn.ModuleList(
            nn.ModuleList(TransformerBlock(width, options.num_heads, options.dropout) for _ in inputs)
            for _ in range(options.num_layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: dict[str, Tokens]) -> list[FusionOutput]:
        presence = self.presence(tokens)
        batch, present = presence.shape[0], presence.any(1)
        streams, masks = [], []
        for name, cls in zip(self.inputs, self.cls.unbind(), strict=True):
            streams.append(
                torch.cat([cls.expand(batch, -1, -1), tokens[name].features], dim=1)
            )  # [batch, 1 + length_m, width]
            masks.append(torch.cat([torch.ones_like(present).unsqueeze(1), tokens[name].mask], dim=1))
        share = presence.to(streams[0].dtype)
        share = (share / share.sum(1, keepdim=True).clamp_min(1))[:, :, None, None]
        shared = self.shared.expand(batch, -1, -1)  # [batch, bottlenecks, width]
        for number, blocks in enumerate(self.layers):
            if number < self.fusion_layer:
                parts = zip(blocks, streams, masks, strict=True)  # type: ignore[call-overload]
                streams = [block(x, mask) for block, x, mask in parts]
            else:
                streams, updates = self._exchange(blocks, streams, masks, shared)
                shared = torch.where(present[:, None, None], (updates * share).sum(1), shared)
        summary = (torch.stack([x[:, 0] for x in streams], dim=1) * share[..., 0]).sum(1)  # [batch, width]
        pooled = (self.norm(summary) + self.norm(shared).mean(1)) / 2
        features = torch.cat([shared, *streams], dim=1)
        real = [mask & presence[:, m, None] for m, mask in enumerate(masks)]
        mask = torch.cat([torch.ones_like(present)[:, None].expand(-1, self.bottlenecks), *real], dim=1)
        return [FusionOutput("joint", Tokens(self.norm(features), mask, present), pooled, present.to(pooled.dtype))]

    def _exchange(
        self, blocks: nn.Module, streams: list[Tensor], masks: list[Tensor], shared: Tensor
    ) -> tuple[list[Tensor], Tensor]:
        """One layer with shared tokens: the streams, and the update from each input `[batch, inputs, tokens,
        width]`."""
        outputs, updates = [], []
        real = masks[0].new_ones(shared.shape[:2])
        for block, x, mask in zip(blocks, streams, masks, strict=True):  # type: ignore[call-overload]
            y = block(torch.cat([x, shared], dim=1), torch.cat([mask, real], dim=1))
            outputs.append(y[:, : x.shape[1]])
            updates.append(y[:, x.shape[1] :])
        return outputs, torch.stack(updates, dim=1)
