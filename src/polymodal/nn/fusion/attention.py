"""Merged attention: one Transformer over the tokens of all inputs."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from polymodal.core.errors import RecipeError, did_you_mean
from polymodal.core.registry import register
from polymodal.core.types import FusionOutput, Tokens
from polymodal.nn.fusion.token import ModalityEmbeddings, TokenFusion, TokenOptions
from polymodal.nn.layers.transformer import TransformerBlock


@register
class MergedAttention(TokenFusion):
    """One Transformer over a class token and the tokens of all inputs; the class token is the fused vector.

        Z_0 = [cls; X_1 + t_1; ..; X_M + t_M] ;  Z_l = Block_l(Z_{l-1}) ;  z = LN(Z_L)[cls]

    Single-stream fusion as in Li et al., "VisualBERT: A Simple and Performant Baseline for Vision and Language", 2019,
    and Kim et al., "ViLT: Vision-and-Language Transformer Without Convolution or Region Supervision", 2021. A missing
    input is masked out: no token attends to it. In a row without any input, only the class token remains.
    """

    class Options(TokenOptions):
        name: Literal["attention"] = "attention"
        graph: list[tuple[str, str]] | None = None
        """Pairs of inputs that may attend to each other, e.g. `[[image, text], [text, audio]]`. Each input always
        attends to itself. The class token attends to all inputs, and no input attends to it. Default: full
        attention."""

    def __init__(self, options: Options, *, inputs: list[str], width: int) -> None:
        super().__init__(options, inputs=inputs, width=width)
        self.typed = ModalityEmbeddings(inputs, width)
        self.cls = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.blocks = nn.ModuleList(
            TransformerBlock(width, options.num_heads, options.dropout) for _ in range(options.num_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.graph: Tensor | None
        graph = None if options.graph is None else _adjacency(options.graph, inputs)
        self.register_buffer("graph", graph, persistent=False)

    def forward(self, tokens: dict[str, Tokens]) -> list[FusionOutput]:
        features, masks = self.typed(tokens), self.typed.present_masks(tokens)
        present = self.presence(tokens).any(1)
        x = torch.cat([self.cls.expand(present.shape[0], 1, -1), *features], dim=1)  # [batch, length, width]
        mask = torch.cat([torch.ones_like(present).unsqueeze(1), *masks], dim=1)  # [batch, length]
        pair = None if self.graph is None else _expand(self.graph, [1, *(part.shape[1] for part in features)])
        for block in self.blocks:
            x = block(x, mask, pair)
        x = self.norm(x)
        return [FusionOutput("joint", Tokens(x, mask, present), x[:, 0], present.to(x.dtype))]


def _adjacency(graph: list[tuple[str, str]], inputs: list[str]) -> Tensor:
    """Attention mask between inputs, `[1 + inputs, 1 + inputs]` bool (query, key), with the class token first.

    Raises:
        RecipeError: the graph names an unknown input.
    """
    adjacency = torch.eye(1 + len(inputs), dtype=torch.bool)
    adjacency[0] = True
    for edge, pair in enumerate(graph):
        for name in pair:
            if name not in inputs:
                problem = f"unknown input {name!r}; {did_you_mean(name, inputs)}"
                raise RecipeError(f"graph.{edge}", problem)
        a, b = (1 + inputs.index(name) for name in pair)
        adjacency[a, b] = adjacency[b, a] = True
    return adjacency


def _expand(graph: Tensor, lengths: list[int]) -> Tensor:
    """The attention mask between tokens, `[1, length, length]` bool, for segments of these lengths."""
    segments = torch.arange(len(lengths), device=graph.device)
    segment = segments.repeat_interleave(torch.tensor(lengths, device=graph.device))
    return graph[segment][:, segment].unsqueeze(0)
