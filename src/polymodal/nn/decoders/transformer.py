"""The default decoder of texts: a Transformer that attends to what the inputs say."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from polymodal.core.errors import RecipeError
from polymodal.core.options import sized_field
from polymodal.core.registry import register
from polymodal.core.types import OutputShape, FusionOutput
from polymodal.nn.decoders.base import SavedDecoder
from polymodal.nn.decoders.ctc import CTCHead
from polymodal.nn.decoders.ctc_prefix_state import CTCPrefixState
from polymodal.nn.decoders.state_mixtures import LogLinearMixture
from polymodal.nn.decoders.packed_sequences import pack_sequences
from polymodal.nn.decoders.warm_start import warm_start_state
from polymodal.nn.decoders.text_decoder import DecodingState, TextDecoder, TextDecoderOptions, answer_positions, joined, memory
from polymodal.nn.layers.causal import CausalBlock, Kept
from polymodal.nn.layers.transformer import sinusoidal_positions

#: Rows are packed where that saves this share of the lines, or more.
WORTH_PACKING = 0.2


@register
class TransformerDecoder(TextDecoder):
    """The decoder of Vaswani et al., "Attention Is All You Need" (2017), with normalisation first:

        h_0 = E[token] sqrt(width) + p ;  h_l = FFN(CA(SA(h_(l-1)) <- memory)) ;  logits = E LN(h_L)

    Every token attends to those before it (SA) and to the memory (CA, see `writer.memory`); the embedding E is also the
    last layer (Press and Wolf, "Using the Output Embedding to Improve Language Models", 2017).

    With `ctc`, the tokens of the inputs also say the text by themselves (`decoders.ctc.CTCHead`), and both the loss and
    what is written are of the two together (Watanabe et al., "Hybrid CTC/Attention Architecture for End-to-End Speech
    Recognition", 2017):

        (1 - ctc) log p_attention + ctc log p_ctc

    A row whose frames are too few for its text learns from attention alone.

    Raises:
        RecipeError: the heads do not divide the width, or `start` names nothing that this could start from.
    """

    class Options(TextDecoderOptions):
        name: Literal["transformer"] = "transformer"
        layers: int = sized_field(2, 4, 6, ge=1, le=48)
        """Number of layers."""
        heads: int = sized_field(4, 4, 6, ge=1)
        """Heads of attention; they divide the recipe's width."""
        dropout: float = Field(default=0.1, ge=0, lt=1)
        """Share of units dropped in training."""
        ctc: float = Field(default=0.0, ge=0, lt=1)
        """Share of connectionist temporal classification in the loss and in what is written; for texts in the order
        in which an input says them. 0 leaves it out."""
        start: str | None = None
        """Folder of a saved model whose text output has such a decoder, of the same width, layers and heads: its
        embedding and layers are taken over, and its tokens. Over a language model, reading the inputs begins anew."""

    options: Options

    def __init__(self, options: Options, *, width: int, shape: OutputShape) -> None:
        super().__init__(options, width=width, shape=shape)
        if width % options.heads:
            raise RecipeError("heads", f"{options.heads} heads do not divide the width {width}")
        self.options, self.width, self.share = options, width, options.ctc
        self.embedding = nn.Embedding(self.text.vocabulary, width)
        nn.init.normal_(self.embedding.weight, std=0.5 * width**-0.5)  # larger, a token begins by repeating itself
        self.blocks = nn.ModuleList(CausalBlock(width, options.heads, options.dropout) for _ in range(options.layers))
        self.norm, self.dropout = nn.LayerNorm(width), nn.Dropout(options.dropout)
        self.frames = CTCHead(width, self.text.vocabulary, 1) if options.ctc else None

    @classmethod
    def prescribe(cls, options: Any) -> dict[str, Any]:
        return {} if options.start is None else {"tokenizer": options.start}

    @property
    def start(self) -> str | None:
        return self.options.start

    def take_over(self, saved: SavedDecoder) -> None:
        theirs = saved.options
        assert isinstance(theirs, TransformerDecoder.Options)
        shapes = {
            "width": (self.width, saved.width),
            "layers": (self.options.layers, theirs.layers),
            "heads": (self.options.heads, theirs.heads),
            "vocabulary": (self.text.vocabulary, len(saved.weights["embedding.weight"])),
        }
        for name, (ours, other) in shapes.items():
            if ours != other:
                problem = f"the decoder in {saved.folder} has {name} {other}, and this one {ours}; set both alike"
                raise RecipeError("start", problem)
        self.load_state_dict(warm_start_state(self.state_dict(), saved.weights, saved.memory))

    def notice(self) -> str | None:
        return None if self.frames is None else self.frames.notice()

    def losses(self, view: FusionOutput, prompt: Tensor, answer: Tensor) -> Tensor:
        tokens, start = joined(self.text.begin, prompt, answer)
        tokens = tokens[:, : max(1, tokens.shape[1] - 1)]  # nothing follows the last
        features, mask = memory(view)
        row, place = answer_positions(start, answer)
        lines = pack_sequences(tokens, WORTH_PACKING) if features.shape[1] == 1 else None
        if lines is not None:
            states = self._embedded(lines.tokens, lines.place)
            for block in self._blocks:
                states = block(states, features, mask, attend=lines.attend, owner=lines.owner)
            states = states[lines.line[row], lines.start[row] + place]
        else:
            states = self._embedded(tokens, torch.arange(tokens.shape[1], device=tokens.device))
            for block in self._blocks:
                states = block(states, features, mask)
            states = states[row, place]
        found = self.real_losses(self._logits(states), answer)
        if self.frames is None:
            return found
        by_frames = self.frames.losses(view, answer, self.text.end)
        share = self.share * (by_frames[:, 1] > 0)
        return torch.stack([(1 - share) * found[:, 0] + share * by_frames[:, 0], found[:, 1]], dim=1)

    def begin(self, view: FusionOutput, prompt: Tensor, steps: int) -> DecodingState:
        draft = _Draft(self, view, prompt)
        if self.frames is None:
            return draft
        log_p, mask = self.frames(view)
        return LogLinearMixture([draft, CTCPrefixState(log_p, mask, self.text.end)], [1 - self.share, self.share])

    @property
    def _blocks(self) -> list[CausalBlock]:
        return cast(list[CausalBlock], list(self.blocks))

    def _embedded(self, tokens: Tensor, place: Tensor) -> Tensor:
        longest = int(place.max()) + 1
        positions = _positions(-(-longest // 256) * 256, self.width).to(place.device)[place]
        embedded = functional.embedding(tokens.clamp_min(0), self.embedding.weight) * self.width**0.5
        embedded = embedded + positions.to(embedded.dtype)
        return self.dropout(embedded) if self.training else embedded

    def _logits(self, states: Tensor) -> Tensor:
        return functional.linear(self.norm(states), self.embedding.weight)


@lru_cache(maxsize=16)
def _positions(length: int, width: int) -> Tensor:
    with torch.inference_mode(False):
        return sinusoidal_positions(length, width)


class _Draft(DecodingState):
    """Every row's texts so far, with what the blocks keep of them.

    length: `[n]`, tokens so far in each row, from which its positions go on
    """

    def __init__(self, writer: TransformerDecoder, view: FusionOutput, prompt: Tensor) -> None:
        self.writer, self.blocks = writer, writer._blocks
        self.tokens, _ = joined(writer.text.begin, prompt, prompt.new_zeros(len(prompt), 0))
        real = self.tokens >= 0
        self.length = real.sum(1)
        self.kept = Kept(self.blocks, *memory(view), real)

    def step(self, tokens: Tensor | None) -> Tensor:
        if tokens is None:
            x = self.writer._embedded(self.tokens, torch.arange(self.tokens.shape[1], device=self.tokens.device))
            for layer, block in enumerate(self.blocks):
                x = block.begin(x, self.kept, layer)
            state = x[torch.arange(len(x), device=x.device), self.length - 1]
        else:
            state = self.writer._embedded(tokens, self.length)
            self.length = self.length + 1
            for layer, block in enumerate(self.blocks):
                state = block.extend(state, self.kept, layer)
        self.kept.advance()
        return self.writer._logits(state).float()

    def select(self, rows: Tensor) -> None:
        self.length = self.length.index_select(0, rows)
        self.kept.select(rows)
