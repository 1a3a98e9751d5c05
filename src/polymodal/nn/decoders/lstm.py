"""LSTM decoder with attention, as in early image captioning."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from polymodal.core.options import sized_field
from polymodal.core.registry import register
from polymodal.core.types import FusionOutput, OutputShape
from polymodal.nn.decoders.text_decoder import (
    DecodingState,
    TextDecoder,
    TextDecoderOptions,
    answer_positions,
    encoder_memory,
    join_sequences,
)
from polymodal.runtime.host_reads import can_read


@register
class LSTMDecoder(TextDecoder):
    """The decoder of Xu et al., "Show, Attend and Tell: Neural Image Caption Generation with Visual Attention" (2015),
    with soft attention to the memory a_1 .. a_n (see `text_decoder.encoder_memory`):

        h_0 = tanh(U_h mean(a)) ;  c_0 = tanh(U_c mean(a))
        alpha_t = softmax_i(v tanh(W_a a_i + W_h h_(t-1))) ;  z_t = sigmoid(w h_(t-1)) sum_i alpha_ti a_i
        h_t, c_t = LSTM([E y_(t-1); z_t], h_(t-1), c_(t-1))
        logits_t = E' tanh(E y_(t-1) + L_h h_t + L_z z_t)

    Everything that does not depend on the state is computed for all tokens at once, before and after the loop. The
    initial bias of the forget gate is increased by 1, so that the state is remembered at first (Jozefowicz, Zaremba and
    Sutskever, "An Empirical Exploration of Recurrent Network Architectures", 2015).
    """

    class Options(TextDecoderOptions):
        name: Literal["lstm"] = "lstm"
        hidden_size: int = sized_field(128, 256, 512, ge=1)
        """Units of the state, of the token embedding, and of the attention."""
        dropout: float = Field(default=0.1, ge=0, lt=1)
        """Dropout probability of the token embeddings and of the inputs of the last layer."""
        attention_coverage_weight: float = Field(default=0.0, ge=0)
        """Weight of the doubly stochastic attention penalty sum_i (1 - sum_t alpha_ti)^2, which encourages equal total
        attention to every position over a text; 1 in the paper."""

    def __init__(self, options: Options, *, width: int, shape: OutputShape) -> None:
        super().__init__(options, width=width, shape=shape)
        hidden, self.coverage_weight = options.hidden_size, options.attention_coverage_weight
        self.hidden = hidden
        self.embedding = nn.Embedding(self.text.vocab_size, hidden)
        self.init_state_layer = nn.Linear(width, 2 * hidden)
        self.keys = nn.Linear(width, hidden)
        self.attention_query = nn.Linear(hidden, hidden + 1)
        self.energy = nn.Linear(hidden, 1, bias=False)
        self.token_gates = nn.Linear(hidden, 4 * hidden)
        self.state_gates = nn.Linear(width + hidden, 4 * hidden, bias=False)
        self.deep_output = nn.Linear(width + hidden, hidden)
        self.classifier = nn.Linear(hidden, self.text.vocab_size)
        self.dropout = nn.Dropout(options.dropout)
        with torch.no_grad():
            self.token_gates.bias[hidden : 2 * hidden] += 1

    def target_nll(self, fused: FusionOutput, prompt: Tensor, answer: Tensor) -> Tensor:
        tokens, start = join_sequences(self.text.bos_id, prompt, answer)
        tokens = tokens[:, : max(1, tokens.shape[1] - 1)]  # the last token is not an input
        context = _AttentionContext(self, *encoder_memory(fused))
        embedded = self.embed(tokens)
        state, cell = context.initial_state()
        features, weights = [], []
        for gates in self.token_gates(embedded).unbind(1):
            state, cell, attended, weight = context.step(gates, state, cell)
            features.append(torch.cat([attended, state], dim=1))
            weights.append(weight)
        row, position = answer_positions(start, answer)
        logits = self.logits(embedded[row, position], torch.stack(features, dim=1)[row, position])
        losses = self.nll_from_flat_logits(logits, answer)
        if not (self.training and self.coverage_weight):
            return losses
        real = (tokens >= 0).unsqueeze(-1)
        coverage = (torch.stack(weights, dim=1) * real).sum(1)  # [batch, memory length]
        missed = (1 - coverage).masked_fill(~context.mask, 0.0)
        return losses + functional.pad((self.coverage_weight * missed.square().sum(1)).unsqueeze(1), (0, 1))

    def init_state(self, fused: FusionOutput, prompt: Tensor, steps: int) -> DecodingState:
        tokens, _ = join_sequences(self.text.bos_id, prompt, prompt.new_zeros(len(prompt), 0))
        return _LSTMState(self, _AttentionContext(self, *encoder_memory(fused)), tokens)

    def embed(self, tokens: Tensor) -> Tensor:
        embedded: Tensor = self.dropout(self.embedding(tokens.clamp_min(0)))
        return embedded

    def logits(self, embedded: Tensor, features: Tensor) -> Tensor:
        """Logits from token embeddings `[..., hidden_size]` and from the attended memory and the state `[..., width +
        hidden_size]`."""
        logits: Tensor = self.classifier(self.dropout(torch.tanh(embedded + self.deep_output(features))))
        return logits


class _AttentionContext:
    """A memory `[rows, length, width]`, and the recurrent step that attends to it."""

    def __init__(self, decoder: LSTMDecoder, features: Tensor, mask: Tensor) -> None:
        self.decoder, self.features, self.mask = decoder, features, mask
        self.keys = decoder.keys(features)
        self.padding = None if can_read(mask) and bool(mask.all()) else ~mask

    def initial_state(self) -> tuple[Tensor, Tensor]:
        """State and cell `[rows, hidden_size]` before the first token."""
        weight = self.mask.to(self.features.dtype).unsqueeze(-1)
        mean = (self.features * weight).sum(1) / weight.sum(1)
        state, cell = torch.tanh(self.decoder.init_state_layer(mean)).chunk(2, -1)
        return state, cell

    def step(self, gates: Tensor, state: Tensor, cell: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """One recurrent step after a token with these gates `[rows, 4 * hidden_size]`.

        Returns state and cell, the attended memory `[rows, width]`, and the attention weights `[rows, length]`.
        """
        decoder = self.decoder
        query, gate = decoder.attention_query(state).split([decoder.hidden, 1], -1)
        energy = decoder.energy(torch.tanh(self.keys + query.unsqueeze(1))).squeeze(-1)
        if self.padding is not None:
            energy = energy.masked_fill(self.padding, -torch.inf)
        weight = energy.softmax(-1)  # [rows, length]
        attended = torch.bmm(weight.unsqueeze(1), self.features.to(weight.dtype)).squeeze(1)  # [rows, width]
        attended = torch.sigmoid(gate) * attended
        gates = gates + decoder.state_gates(torch.cat([attended, state.to(attended.dtype)], dim=1))
        input_gate, forget_gate, candidate, output_gate = gates.chunk(4, -1)
        cell = torch.sigmoid(forget_gate) * cell + torch.sigmoid(input_gate) * torch.tanh(candidate)
        return torch.sigmoid(output_gate) * torch.tanh(cell), cell, attended, weight

    def reorder(self, rows: Tensor) -> None:
        self.features, self.mask = self.features.index_select(0, rows), self.mask.index_select(0, rows)
        self.keys = self.keys.index_select(0, rows)
        self.padding = None if self.padding is None else self.padding.index_select(0, rows)


class _LSTMState(DecodingState):
    """State and cell of every row, initially after the tokens `prefix [n, length]` of its prompt."""

    def __init__(self, decoder: LSTMDecoder, context: _AttentionContext, prefix: Tensor) -> None:
        self.decoder, self.context, self.prefix = decoder, context, prefix
        self.owner = torch.arange(len(prefix), device=prefix.device)
        self.state, self.cell = context.initial_state()

    def step(self, tokens: Tensor | None) -> Tensor:
        columns = self.prefix.unbind(1) if tokens is None else (tokens,)
        logits = None
        for column in columns:
            embedded = self.decoder.embed(column)
            state, cell, attended, _ = self.context.step(self.decoder.token_gates(embedded), self.state, self.cell)
            new = self.decoder.logits(embedded, torch.cat([attended, state], dim=1)).float()
            real = (column >= 0).unsqueeze(1)
            self.state, self.cell = torch.where(real, state, self.state), torch.where(real, cell, self.cell)
            logits = new if logits is None else torch.where(real, new, logits)
        assert logits is not None
        return logits

    def reorder(self, rows: Tensor) -> None:
        self.state, self.cell = self.state.index_select(0, rows), self.cell.index_select(0, rows)
        owner = self.owner.index_select(0, rows)
        if not (can_read(owner) and torch.equal(owner, self.owner)):
            self.context.reorder(rows)
        self.owner = owner
