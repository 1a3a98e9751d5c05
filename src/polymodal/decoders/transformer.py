"""The default decoder of texts: a Transformer that attends to what the inputs say."""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from polymodal.decoders.writer import Draft, Writer, WriterOptions, at_answer, joined, memory
from polymodal.errors import RecipeError
from polymodal.nn.causal import CausalBlock, Kept
from polymodal.nn.transformer import sinusoidal_positions
from polymodal.recipe.options import sized
from polymodal.registry import register
from polymodal.tokens import OutputShape, View


@register
class TransformerWriter(Writer):
    """The decoder of Vaswani et al., "Attention Is All You Need" (2017), with normalisation first:

        h_0 = E[token] sqrt(width) + p ;  h_l = FFN(CA(SA(h_(l-1)) <- memory)) ;  logits = E LN(h_L)

    Every token attends to those before it (SA) and to the memory (CA, see `writer.memory`); the embedding E is also the
    last layer (Press and Wolf, "Using the Output Embedding to Improve Language Models", 2017).
    """

    class Options(WriterOptions):
        name: Literal["transformer"] = "transformer"
        layers: int = sized(2, 4, 6, ge=1, le=48)
        """Number of layers."""
        heads: int = sized(4, 4, 6, ge=1)
        """Heads of attention; they divide the recipe's width."""
        dropout: float = Field(default=0.1, ge=0, lt=1)
        """Share of units dropped in training."""

    options: Options

    def __init__(self, options: Options, *, width: int, shape: OutputShape) -> None:
        super().__init__(options, width=width, shape=shape)
        if width % options.heads:
            raise RecipeError("heads", f"{options.heads} heads do not divide the width {width}")
        self.width = width
        self.embedding = nn.Embedding(self.text.vocabulary, width)
        nn.init.normal_(self.embedding.weight, std=width**-0.5)
        self.blocks = nn.ModuleList(CausalBlock(width, options.heads, options.dropout) for _ in range(options.layers))
        self.norm, self.dropout = nn.LayerNorm(width), nn.Dropout(options.dropout)

    def losses(self, view: View, prompt: Tensor, answer: Tensor) -> Tensor:
        tokens, start = joined(self.text.begin, prompt, answer)
        features, mask = memory(view)
        states = self._states(tokens, features, mask)
        return self.token_losses(self._logits(at_answer(states, start, answer.shape[1])), answer)

    def begin(self, view: View, prompt: Tensor, steps: int) -> Draft:
        return _Draft(self, view, prompt, steps)

    def _embedded(self, tokens: Tensor, place: Tensor) -> Tensor:
        positions = sinusoidal_positions(int(place.max()) + 1, self.width).to(place.device)[place]
        embedded = self.embedding(tokens.clamp_min(0)) * self.width**0.5
        return self.dropout(embedded + positions.to(embedded.dtype))

    def _states(self, tokens: Tensor, features: Tensor, mask: Tensor) -> Tensor:
        place = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
        x = self._embedded(tokens, place)
        for block in self.blocks:
            x = block(x, features, mask)
        return x

    def _logits(self, states: Tensor) -> Tensor:
        return self.norm(states) @ self.embedding.weight.t()


class _Draft(Draft):
    """Keys and values of every token so far, and of the memory, layer by layer."""

    def __init__(self, writer: TransformerWriter, view: View, prompt: Tensor, steps: int) -> None:
        self.writer = writer
        self.tokens, _ = joined(writer.text.begin, prompt, prompt.new_zeros(len(prompt), 0))
        self.length = (self.tokens >= 0).sum(1)
        features, mask = memory(view)
        capacity = self.tokens.shape[1] + steps
        blocks: Any = writer.blocks
        self.kept: list[Kept] = [block.keep(features, mask, capacity) for block in blocks]

    def step(self, tokens: Tensor | None) -> Tensor:
        writer = self.writer
        if tokens is None:
            new, place = self.tokens, torch.arange(self.tokens.shape[1]).expand_as(self.tokens)
            last = self.length - 1
        else:
            new, place, last = tokens.unsqueeze(1), self.length.unsqueeze(1), torch.zeros_like(self.length)
            self.length = self.length + 1
        x = writer._embedded(new, place)
        for block, kept in zip(writer.blocks, self.kept, strict=True):
            x = block.extend(x, place, kept)  # type: ignore[operator]
        state = x[torch.arange(len(x)), last]
        return writer._logits(state).float()

    def select(self, rows: Tensor) -> None:
        self.tokens, self.length = self.tokens.index_select(0, rows), self.length.index_select(0, rows)
        for kept in self.kept:
            kept.select(rows)
