"""The decoder of the first captioners: an LSTM that looks at a part of its inputs before every word."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from polymodal.core.options import sized_field
from polymodal.core.registry import register
from polymodal.core.types import OutputShape, FusionOutput
from polymodal.nn.decoders.text_decoder import DecodingState, TextDecoder, TextDecoderOptions, answer_positions, joined, memory


@register
class LSTMDecoder(TextDecoder):
    """The decoder of Xu et al., "Show, Attend and Tell: Neural Image Caption Generation with Visual Attention" (2015),
    with soft attention to the memory a_1 .. a_n (see `writer.memory`):

        h_0 = tanh(U_h mean(a)) ;  c_0 = tanh(U_c mean(a))
        alpha_t = softmax_i(v tanh(W_a a_i + W_h h_(t-1))) ;  z_t = sigmoid(w h_(t-1)) sum_i alpha_ti a_i
        h_t, c_t = LSTM([E y_(t-1); z_t], h_(t-1), c_(t-1))
        logits_t = E' tanh(E y_(t-1) + L_h h_t + L_z z_t)

    What does not depend on the state is computed for all tokens at once, before and after the loop. The state is kept
    at first: the bias of the forget gate begins higher by 1 (Jozefowicz, Zaremba and Sutskever, "An Empirical
    Exploration of Recurrent Network Architectures", 2015).
    """

    class Options(TextDecoderOptions):
        name: Literal["lstm"] = "lstm"
        hidden: int = sized_field(128, 256, 512, ge=1)
        """Units of the state, of the embedding of tokens, and of the attention."""
        dropout: float = Field(default=0.1, ge=0, lt=1)
        """Share of units dropped in training, of embedded tokens and before the last layer."""
        spread: float = Field(default=0.0, ge=0)
        """Weight of sum_i (1 - sum_t alpha_ti)^2 over real places, by which every place is looked at alike over a whole
        text; 1 in the paper."""

    def __init__(self, options: Options, *, width: int, shape: OutputShape) -> None:
        super().__init__(options, width=width, shape=shape)
        hidden, self.spread = options.hidden, options.spread
        self.hidden = hidden
        self.embedding = nn.Embedding(self.text.vocabulary, hidden)
        self.first = nn.Linear(width, 2 * hidden)
        self.keys = nn.Linear(width, hidden)
        self.look = nn.Linear(hidden, hidden + 1)
        self.energy = nn.Linear(hidden, 1, bias=False)
        self.of_token = nn.Linear(hidden, 4 * hidden)
        self.of_state = nn.Linear(width + hidden, 4 * hidden, bias=False)
        self.deep = nn.Linear(width + hidden, hidden)
        self.decide = nn.Linear(hidden, self.text.vocabulary)
        self.dropout = nn.Dropout(options.dropout)
        with torch.no_grad():
            self.of_token.bias[hidden : 2 * hidden] += 1

    def losses(self, view: FusionOutput, prompt: Tensor, answer: Tensor) -> Tensor:
        tokens, start = joined(self.text.begin, prompt, answer)
        tokens = tokens[:, : max(1, tokens.shape[1] - 1)]  # nothing follows the last
        seen = _Seen(self, *memory(view))
        embedded = self.embed(tokens)
        state, cell = seen.beginning()
        found, shares = [], []
        for gates in self.of_token(embedded).unbind(1):
            state, cell, looked, share = seen.step(gates, state, cell)
            found.append(torch.cat([looked, state], dim=1))
            shares.append(share)
        row, place = answer_positions(start, answer)
        logits = self.logits(embedded[row, place], torch.stack(found, dim=1)[row, place])
        losses = self.real_losses(logits, answer)
        if not (self.training and self.spread):
            return losses
        said = (tokens >= 0).unsqueeze(-1)
        missed = (1 - (torch.stack(shares, dim=1) * said).sum(1)).masked_fill(~seen.mask, 0.0)
        return losses + functional.pad((self.spread * missed.square().sum(1)).unsqueeze(1), (0, 1))

    def begin(self, view: FusionOutput, prompt: Tensor, steps: int) -> DecodingState:
        tokens, _ = joined(self.text.begin, prompt, prompt.new_zeros(len(prompt), 0))
        return _Draft(self, _Seen(self, *memory(view)), tokens)

    def embed(self, tokens: Tensor) -> Tensor:
        embedded: Tensor = self.dropout(self.embedding(tokens.clamp_min(0)))
        return embedded

    def logits(self, embedded: Tensor, found: Tensor) -> Tensor:
        """What follows tokens `[..., hidden]` at what was looked at and the state, `[..., width + hidden]`."""
        said: Tensor = self.decide(self.dropout(torch.tanh(embedded + self.deep(found))))
        return said


class _Seen:
    """A memory `[rows, places, width]`, and a step of the state before it."""

    def __init__(self, writer: LSTMDecoder, features: Tensor, mask: Tensor) -> None:
        self.writer, self.features, self.mask = writer, features, mask
        self.keys = writer.keys(features)
        self.hidden_places = None if bool(mask.all()) else ~mask

    def beginning(self) -> tuple[Tensor, Tensor]:
        """State and cell `[rows, hidden]` before the first token."""
        weight = self.mask.to(self.features.dtype).unsqueeze(-1)
        mean = (self.features * weight).sum(1) / weight.sum(1)
        state, cell = torch.tanh(self.writer.first(mean)).chunk(2, -1)
        return state, cell

    def step(self, gates: Tensor, state: Tensor, cell: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """State and cell after a token that gives these gates `[rows, 4 * hidden]`, what was looked at
        `[rows, width]`, and the share of each place in it `[rows, places]`."""
        writer = self.writer
        query, gate = writer.look(state).split([writer.hidden, 1], -1)
        energy = writer.energy(torch.tanh(self.keys + query.unsqueeze(1))).squeeze(-1)
        if self.hidden_places is not None:
            energy = energy.masked_fill(self.hidden_places, -torch.inf)
        share = energy.softmax(-1)
        looked = torch.sigmoid(gate) * torch.bmm(share.unsqueeze(1), self.features.to(share.dtype)).squeeze(1)
        gates = gates + writer.of_state(torch.cat([looked, state.to(looked.dtype)], dim=1))
        let_in, forget, fresh, let_out = gates.chunk(4, -1)
        cell = torch.sigmoid(forget) * cell + torch.sigmoid(let_in) * torch.tanh(fresh)
        return torch.sigmoid(let_out) * torch.tanh(cell), cell, looked, share

    def select(self, rows: Tensor) -> None:
        self.features, self.mask = self.features.index_select(0, rows), self.mask.index_select(0, rows)
        self.keys = self.keys.index_select(0, rows)
        self.hidden_places = None if self.hidden_places is None else self.hidden_places.index_select(0, rows)


class _Draft(DecodingState):
    """State and cell of every row, after the tokens `beginning [n, length]` of its prompt at first."""

    def __init__(self, writer: LSTMDecoder, seen: _Seen, beginning: Tensor) -> None:
        self.writer, self.seen, self.beginning = writer, seen, beginning
        self.owner = torch.arange(len(beginning), device=beginning.device)
        self.state, self.cell = seen.beginning()

    def step(self, tokens: Tensor | None) -> Tensor:
        columns = self.beginning.unbind(1) if tokens is None else (tokens,)
        logits = None
        for column in columns:
            embedded = self.writer.embed(column)
            state, cell, looked, _ = self.seen.step(self.writer.of_token(embedded), self.state, self.cell)
            said = self.writer.logits(embedded, torch.cat([looked, state], dim=1)).float()
            real = (column >= 0).unsqueeze(1)
            self.state, self.cell = torch.where(real, state, self.state), torch.where(real, cell, self.cell)
            logits = said if logits is None else torch.where(real, said, logits)
        assert logits is not None
        return logits

    def select(self, rows: Tensor) -> None:
        self.state, self.cell = self.state.index_select(0, rows), self.cell.index_select(0, rows)
        owner = self.owner.index_select(0, rows)
        if not torch.equal(owner, self.owner):
            self.seen.select(rows)
        self.owner = owner
