"""Greedy decoding and sampling over a `DecodingState`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from polymodal.generation.config import GenerationConfig
from polymodal.generation.constraints.base import Constraint
from polymodal.generation.output import FinishReason
from polymodal.generation.sampling_distribution import (
    RowSeededUniforms,
    apply_repetition_penalty,
    probabilities,
    sample,
)
from polymodal.generation.stop_strings import StopStrings
from polymodal.generation.tokenizer import TextTokenizer
from polymodal.nn.decoders.text_decoder import DecodingState

#: Lower bound of logits under a constraint, so that an allowed token with probability 0 can still be selected.
MIN_LOGIT = -1e30


class SampleSearch:
    """Independent texts, `num_return_sequences` for each row: greedy, or sampled with a temperature.

    tokens, scores: `[texts, capacity]`, the tokens so far without the end token, padded with -1, and their
        log-probabilities
    lengths: `[texts]`, the number of tokens of each text
    active: `[active]`, the indices of the unfinished texts, in the order of the rows of the decoding state
    finish_reasons: why each text ended; "length" while a text is unfinished
    """

    def __init__(
        self,
        state: DecodingState,
        row_numbers: Sequence[int],
        config: GenerationConfig,
        tokenizer: TextTokenizer,
        max_new_tokens: int,
        constraint: Constraint | None,
    ) -> None:
        self.state, self.config, self.tokenizer, self.max_new_tokens = state, config, tokenizer, max_new_tokens
        samples = config.num_return_sequences
        self.rows, texts = len(row_numbers), len(row_numbers) * samples
        self.active = torch.arange(texts)
        self.tokens = torch.full((texts, min(max_new_tokens, 64)), -1, dtype=torch.int64)
        self.scores = torch.zeros(texts, min(max_new_tokens, 64))
        self.lengths = torch.zeros(texts, dtype=torch.int64)
        self.finish_reasons: list[FinishReason] = ["length"] * texts
        self.stops = StopStrings(config.stop_strings, tokenizer)
        self.uniforms = RowSeededUniforms(config.seed, row_numbers, samples) if config.temperature > 0 else None
        self.cursors = None if constraint is None else [constraint.start(max_new_tokens) for _ in range(texts)]

    def generate(self) -> Iterator[None]:
        """Run the search; yields after each step, which appends one token to every active text."""
        logits = self.state.step(None)
        device = logits.device
        self.active, self.tokens = self.active.to(device), self.tokens.to(device)
        self.scores, self.lengths = self.scores.to(device), self.lengths.to(device)
        if self.config.num_return_sequences > 1:
            copies = torch.arange(self.rows, device=device).repeat_interleave(self.config.num_return_sequences)
            self.state.reorder(copies)
            logits = logits.index_select(0, copies)
        for step in range(self.max_new_tokens):
            selected = self._select(logits, step)
            unfinished = self._append(selected, logits, step)
            yield
            if step + 1 == self.max_new_tokens or (unfinished is not None and len(unfinished) == 0):
                return
            if unfinished is not None:
                self.state.reorder(unfinished)
                selected, self.active = selected[unfinished], self.active[unfinished]
            logits = self.state.step(selected)

    def _select(self, logits: Tensor, step: int) -> Tensor:
        """The next token of each active text, `[active]`, from `logits [active, vocabulary]`."""
        if self.config.repetition_penalty != 1:
            generated = self.tokens[self.active, :step]
            logits = apply_repetition_penalty(logits, generated, self.config.repetition_penalty)
        if self.cursors is not None:
            left = self.max_new_tokens - step
            masks = [torch.from_numpy(self.cursors[text].allowed_tokens(left)) for text in self.active.tolist()]
            allowed = torch.stack(masks).to(logits.device)
            logits = logits.clamp_min(MIN_LOGIT).masked_fill(~allowed, -torch.inf)
        if self.uniforms is None:
            selected = logits.argmax(-1)
        else:
            selected = sample(probabilities(logits, self.config), self.uniforms.uniform(self.active, step))
        return selected if self.cursors is None else self._constrain(selected, self.max_new_tokens - step - 1)

    def _constrain(self, selected: Tensor, left: int) -> Tensor:
        """The selected tokens, each replaced by the next token of a completion if its text could otherwise not be
        completed in `left` tokens."""
        tokens = selected.tolist()
        for index, text in enumerate(self.active.tolist()):
            cursor = self.cursors[text]  # type: ignore[index]
            if tokens[index] != self.tokenizer.eos_id and not cursor.advance(tokens[index], left):
                tokens[index] = cursor.next_token_to_finish()
                if tokens[index] != self.tokenizer.eos_id:
                    cursor.advance(tokens[index], left)
        return selected.new_tensor(tokens)

    def _append(self, selected: Tensor, logits: Tensor, step: int) -> Tensor | None:
        """Append to the active texts; returns the positions in `active` that continue, or None if all continue."""
        if step == self.tokens.shape[1]:
            more = min(self.max_new_tokens, 2 * step) - step
            self.tokens = torch.nn.functional.pad(self.tokens, (0, more), value=-1)
            self.scores = torch.nn.functional.pad(self.scores, (0, more))
        self.scores[self.active, step] = logits.gather(1, selected.unsqueeze(1)).squeeze(1) - logits.logsumexp(-1)
        ended = selected == self.tokenizer.eos_id
        unfinished = ~ended
        self.tokens[self.active, step] = torch.where(ended, -1, selected)
        self.lengths[self.active] += unfinished
        is_any_ended = any(is_ended := ended.tolist())  # the one value that each step waits for
        if is_any_ended:
            for text, has_ended in zip(self.active.tolist(), is_ended, strict=True):
                if has_ended:
                    self.finish_reasons[text] = "end"
        if self.stops.stops:
            rows = unfinished.nonzero().squeeze(1)
            texts = self.tokens[self.active[rows], : step + 1].tolist()
            reached = torch.tensor(self.stops.reached(texts), dtype=torch.bool, device=rows.device)
            for text in self.active[rows[reached]].tolist():
                self.finish_reasons[text] = "stop"
            unfinished[rows[reached]] = False
            is_any_ended = not bool(unfinished.all())
        return unfinished.nonzero().squeeze(1) if is_any_ended else None

    def results(self) -> list[tuple[list[int], list[float], FinishReason]]:
        """Tokens, log-probabilities (including that of the end token) and finish reason of each text."""
        texts = zip(self.tokens.tolist(), self.scores.tolist(), self.lengths.tolist(), self.finish_reasons, strict=True)
        return [(ids[:n], scores[: n + (reason == "end")], reason) for ids, scores, n, reason in texts]
