"""A Perceiver resampler: any number of tokens -> a fixed number of tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from polymodal.nn.layers.transformer import CrossAttentionBlock


class Resampler(nn.Module):
    """Learned queries that attend to the tokens and to each other in each layer, then a projection to another width:

        Z_0 = learned ;  Z_l = Cross(Z_(l-1) <- [X; Z_(l-1)]) ;  result = W LN(Z_L)

    (Alayrac et al., "Flamingo: a Visual Language Model for Few-Shot Learning", 2022, section 2.1). The cost grows
    linearly with the number of tokens.

    num_tokens: number of output tokens
    width, out_width: width of the input tokens and of the output tokens

    Example:
        >>> import torch
        >>> resampler = Resampler(4, 16, 32)
        >>> tokens, mask = resampler(torch.randn(2, 10, 16), torch.ones(2, 10, dtype=torch.bool))
        >>> tokens.shape, mask.shape
        (torch.Size([2, 4, 32]), torch.Size([2, 4]))
    """

    def __init__(self, num_tokens: int, width: int, out_width: int, *, num_layers: int = 2, num_heads: int = 4) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(num_tokens, width) * 0.02)
        num_heads = next(candidate for candidate in range(min(num_heads, width), 0, -1) if width % candidate == 0)
        self.blocks = nn.ModuleList(CrossAttentionBlock(width, num_heads, 0.0) for _ in range(num_layers))
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, out_width)

    def forward(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """`features [batch, length, width]` and `mask [batch, length]` (True = real) ->
        `[batch, num_tokens, out_width]` and their mask, all True."""
        x = self.queries.expand(features.shape[0], -1, -1)
        query_mask = mask.new_ones(x.shape[:2])
        for block in self.blocks:
            x = block(x, torch.cat([features, x.to(features.dtype)], dim=1), torch.cat([mask, query_mask], dim=1))
        return self.out(self.norm(x)), query_mask
