"""The default text decoder: a Transformer with cross-attention to the inputs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from polymodal.core.errors import RecipeError
from polymodal.core.options import sized_field
from polymodal.core.registry import register
from polymodal.core.types import FusionOutput, OutputShape
from polymodal.nn.decoders.base import SavedDecoder
from polymodal.nn.decoders.ctc import CTCHead
from polymodal.nn.decoders.ctc_prefix_state import CTCPrefixState
from polymodal.nn.decoders.packed_sequences import pack_sequences
from polymodal.nn.decoders.state_mixtures import LogLinearMixture
from polymodal.nn.decoders.text_decoder import (
    DecodingState,
    TextDecoder,
    TextDecoderOptions,
    answer_positions,
    encoder_memory,
    join_sequences,
)
from polymodal.nn.decoders.warm_start import warm_start_state
from polymodal.nn.encoders.base import Encoder
from polymodal.nn.encoders.windowed import refuse_windows
from polymodal.nn.layers.causal import CausalBlock, KVCache
from polymodal.nn.layers.transformer import sinusoidal_positions
from polymodal.runtime.host_reads import can_read

#: Sequences are packed if that saves at least this fraction of the rows.
MIN_PACKING_SAVING = 0.2


@register
class TransformerDecoder(TextDecoder):
    """The decoder of Vaswani et al., "Attention Is All You Need" (2017), in its pre-norm variant:

        h_0 = E[token] sqrt(width) + p ;  h_l = FFN(CA(SA(h_(l-1)) <- memory)) ;  logits = E LN(h_L)

    Every token attends to the previous tokens (SA) and to the memory (CA, see `text_decoder.encoder_memory`). The
    embedding E is tied to the output layer (Press and Wolf, "Using the Output Embedding to Improve Language Models",
    2017).

    With `ctc_weight` c, a CTC head on the input tokens (`decoders.ctc.CTCHead`) also predicts the text, and both
    training and decoding combine the two (Watanabe et al., "Hybrid CTC/Attention Architecture for End-to-End Speech
    Recognition", 2017):

        (1 - c) log p_attention + c log p_ctc

    A row with too few frames for its text has only the attention loss.

    Raises:
        RecipeError: the heads do not divide the width, or `init_from` does not name a compatible model.
    """

    class Options(TextDecoderOptions):
        name: Literal["transformer"] = "transformer"
        num_layers: int = sized_field(2, 4, 6, ge=1, le=48)
        """Number of Transformer layers."""
        num_heads: int = sized_field(4, 4, 6, ge=1)
        """Number of attention heads; it must divide `hidden_size`."""
        dropout: float = Field(default=0.1, ge=0, lt=1)
        """Dropout probability."""
        ctc_weight: float = Field(default=0.0, ge=0, lt=1)
        """Weight of connectionist temporal classification in training and decoding, for texts in the temporal order of
        an input. 0: no CTC head."""
        init_from: str | None = None
        """Directory of a saved model whose text output has this decoder with the same width, layers and heads: its
        embedding, layers and tokenizer initialize this decoder. From a language model, attention to the inputs is
        initialized randomly."""

    options: Options

    def __init__(self, options: Options, *, width: int, shape: OutputShape) -> None:
        super().__init__(options, width=width, shape=shape)
        if width % options.num_heads:
            raise RecipeError("num_heads", f"{options.num_heads} heads do not divide the hidden size {width}")
        if options.ctc_weight and not self.text.has_end:
            raise RecipeError("ctc_weight", "an image is in the temporal order of no input; remove this option")
        self.options, self.width, self.ctc_weight = options, width, options.ctc_weight
        self.embedding = nn.Embedding(self.text.vocab_size, width)
        nn.init.normal_(
            self.embedding.weight, std=0.5 * width**-0.5
        )  # with a larger value, each token initially predicts itself
        self.blocks = nn.ModuleList(
            CausalBlock(width, options.num_heads, options.dropout) for _ in range(options.num_layers)
        )
        self.norm, self.dropout = nn.LayerNorm(width), nn.Dropout(options.dropout)
        self.ctc_head = CTCHead(width, self.text.vocab_size, 1) if options.ctc_weight else None

    @classmethod
    def required_options(cls, options: Any) -> dict[str, Any]:
        return {} if options.init_from is None else {"tokenizer": options.init_from}

    def attach_encoders(self, encoders: Mapping[str, Encoder]) -> None:
        if self.ctc_head is not None:
            refuse_windows(encoders, "ctc_weight needs a token for each moment")

    @property
    def init_from(self) -> str | None:
        return self.options.init_from

    def load_from(self, saved: SavedDecoder) -> None:
        options = saved.options
        assert isinstance(options, TransformerDecoder.Options)
        shapes = {
            "hidden_size": (self.width, saved.width),
            "num_layers": (self.options.num_layers, options.num_layers),
            "num_heads": (self.options.num_heads, options.num_heads),
            "vocabulary size": (self.text.vocab_size, len(saved.weights["embedding.weight"])),
        }
        for name, (own, other) in shapes.items():
            if own != other:
                problem = (
                    f"the decoder in {saved.folder} has {name} {other}, but this decoder has {own}; use equal values"
                )
                raise RecipeError("init_from", problem)
        self.load_state_dict(warm_start_state(self.state_dict(), saved.weights, saved.memory_token))

    def training_warning(self) -> str | None:
        return None if self.ctc_head is None else self.ctc_head.training_warning()

    def target_nll(self, fused: FusionOutput, prompt: Tensor, answer: Tensor) -> Tensor:
        tokens, start = join_sequences(self.text.bos_id, prompt, answer)
        tokens = tokens[:, : max(1, tokens.shape[1] - 1)]  # the last token is not an input
        features, mask = encoder_memory(fused)
        row, position = answer_positions(start, answer)
        packed = pack_sequences(tokens, MIN_PACKING_SAVING) if features.shape[1] == 1 else None
        if packed is not None:
            states = self._embed(packed.tokens, packed.position, packed.tokens.shape[1])  # [packs, length, width]
            for block in self._blocks:
                states = block(states, features, mask, attention_mask=packed.attend, memory_index=packed.owner)
            states = states[packed.pack[row], packed.start[row] + position]
        else:
            states = self._embed(tokens, torch.arange(tokens.shape[1], device=tokens.device), tokens.shape[1])
            for block in self._blocks:
                states = block(states, features, mask)
            states = states[row, position]
        nll = self.nll_from_flat_logits(self._logits(states), answer)
        if self.ctc_head is None:
            return nll
        ctc_nll = self.ctc_head.nll(fused, answer, self.text.eos_id)
        weight = self.ctc_weight * (ctc_nll[:, 1] > 0)
        return torch.stack([(1 - weight) * nll[:, 0] + weight * ctc_nll[:, 0], nll[:, 1]], dim=1)

    def init_state(self, fused: FusionOutput, prompt: Tensor, steps: int) -> DecodingState:
        state = _TransformerState(self, fused, prompt)
        if self.ctc_head is None:
            return state
        log_p, mask = self.ctc_head(fused)
        return LogLinearMixture(
            [state, CTCPrefixState(log_p, mask, self.text.eos_id)], [1 - self.ctc_weight, self.ctc_weight]
        )

    @property
    def _blocks(self) -> list[CausalBlock]:
        return cast(list[CausalBlock], list(self.blocks))

    def _embed(self, tokens: Tensor, position: Tensor, end: int) -> Tensor:
        """The embeddings of `tokens` at `position`, both of one shape; every position is below `end`."""
        longest = int(position.max()) + 1 if can_read(position) else end
        positions = _positions(-(-longest // 256) * 256, self.width, position.device)[position]
        embedded = functional.embedding(tokens.clamp_min(0), self.embedding.weight) * self.width**0.5
        embedded = embedded + positions.to(embedded.dtype)
        return self.dropout(embedded) if self.training else embedded

    def _logits(self, states: Tensor) -> Tensor:
        return functional.linear(self.norm(states), self.embedding.weight)


@lru_cache(maxsize=16)
def _positions(length: int, width: int, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return sinusoidal_positions(length, width).to(device)


class _TransformerState(DecodingState):
    """The generated tokens of every row, with a key-value cache.

    length: `[n]`, number of tokens in each row; end: no row has more
    """

    def __init__(self, decoder: TransformerDecoder, fused: FusionOutput, prompt: Tensor) -> None:
        self.decoder, self.blocks = decoder, decoder._blocks
        self.tokens, _ = join_sequences(decoder.text.bos_id, prompt, prompt.new_zeros(len(prompt), 0))
        real = self.tokens >= 0
        self.length, self.end = real.sum(1), self.tokens.shape[1]
        self.cache = KVCache(self.blocks, *encoder_memory(fused), real)

    def step(self, tokens: Tensor | None) -> Tensor:
        if tokens is None:
            length = self.tokens.shape[1]
            x = self.decoder._embed(self.tokens, torch.arange(length, device=self.tokens.device), length)
            for layer, block in enumerate(self.blocks):
                x = block.prefill(x, self.cache, layer)
            state = x[torch.arange(len(x), device=x.device), self.length - 1]
        else:
            self.end += 1
            state = self.decoder._embed(tokens, self.length, self.end)
            self.length = self.length + 1
            for layer, block in enumerate(self.blocks):
                state = block.decode_step(state, self.cache, layer)
        self.cache.advance()
        return self.decoder._logits(state).float()

    def reorder(self, rows: Tensor) -> None:
        self.length = self.length.index_select(0, rows)
        self.cache.reorder(rows)
