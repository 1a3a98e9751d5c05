"""Beam search over a `DecodingState`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from polymodal.generation.config import GenerationConfig
from polymodal.generation.constraints.base import Constraint, Cursor
from polymodal.generation.output import FinishReason
from polymodal.generation.sampling_distribution import apply_repetition_penalty
from polymodal.generation.sampling_search import MIN_LOGIT
from polymodal.generation.stop_strings import StopStrings
from polymodal.generation.tokenizer import TextTokenizer
from polymodal.nn.decoders.text_decoder import DecodingState
from polymodal.runtime.host_reads import can_read


@dataclass(frozen=True)
class Hypothesis:
    """A finished text; `value` is its log-probability (after the repetition penalty) / length^length_penalty."""

    value: float
    tokens: list[int]
    scores: list[float]
    finish_reason: FinishReason


class BeamSearch:
    """For each row, the best `num_return_sequences` texts by

        log p(text) / length^length_penalty,    length = number of tokens, including the end token.

    A row keeps its `num_beams` most likely unfinished texts. Every way to end one of them is compared with the best
    finished hypotheses. A row is done when no unfinished text can still beat those, however long it becomes:
    log p / max_new_tokens^length_penalty bounds all continuations, because log p only decreases. Texts that are cut at
    `max_new_tokens` are hypotheses like the others (Sutskever et al., "Sequence to Sequence Learning with Neural
    Networks", 2014; length penalty as in Wu et al., "Google's Neural Machine Translation System", 2016, without their
    constant).

    active: the indices of the rows that are not done
    tokens: `[active, beams, length]`, the unfinished texts of the active rows
    scores: `[active, beams, length]`, the log-probability of each token as the decoder predicted it
    total: `[active, beams]`, log p; -inf for an unused beam
    """

    def __init__(
        self,
        state: DecodingState,
        rows: int,
        config: GenerationConfig,
        tokenizer: TextTokenizer,
        max_new_tokens: int,
        constraint: Constraint | None,
    ) -> None:
        self.state, self.config, self.tokenizer, self.max_new_tokens = state, config, tokenizer, max_new_tokens
        self.hypotheses: list[list[Hypothesis]] = [[] for _ in range(rows)]
        self.active = list(range(rows))
        self.tokens = torch.zeros(rows, 1, 0, dtype=torch.int64)
        self.scores = torch.zeros(rows, 1, 0)
        self.total = torch.zeros(rows, 1)
        self.stops = StopStrings(config.stop_strings, tokenizer)
        self.cursors: list[list[Cursor | None]] = [
            [None if constraint is None else constraint.start(max_new_tokens)] for _ in range(rows)
        ]
        self.constrained = constraint is not None

    def search(self) -> list[list[Hypothesis]]:
        """The best texts of each row, best first; fewer than `num_return_sequences` if there are no more."""
        logits = self.state.step(None)
        device = logits.device
        self.tokens, self.scores = self.tokens.to(device), self.scores.to(device)
        self.total = self.total.to(device)
        for step in range(self.max_new_tokens):
            raw, log_p = self._log_probabilities(logits, step)
            self._end(raw, log_p, step)
            self._continue(raw, log_p, step)
            unfinished = self._unfinished(step)
            if not unfinished:
                break
            rows = torch.tensor(unfinished, device=device)
            beams = self.total.shape[1]
            previous = self.parents + torch.arange(len(self.active), device=device).unsqueeze(1) * raw.shape[1]
            order = previous[rows].reshape(-1)
            if not (can_read(order) and torch.equal(order, torch.arange(len(logits)))):
                self.state.reorder(order)
            self.tokens, self.scores, self.total = self.tokens[rows], self.scores[rows], self.total[rows]
            self.cursors = [self.cursors[row] for row in unfinished]
            self.active = [self.active[row] for row in unfinished]
            logits = self.state.step(self.tokens[..., -1].reshape(len(unfinished) * beams))
        return self.hypotheses

    def _log_probabilities(self, logits: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Log-probabilities of next tokens `[active, beams, vocabulary]`: as predicted, and after penalty and
        constraint."""
        shape = (*self.total.shape, logits.shape[-1])
        raw = logits.log_softmax(-1)
        log_p = raw
        if self.config.repetition_penalty != 1:
            penalized = apply_repetition_penalty(logits, self.tokens.flatten(0, 1), self.config.repetition_penalty)
            log_p = penalized.log_softmax(-1)
        raw, log_p = raw.view(shape), log_p.view(shape)
        if self.constrained:
            allowed = torch.zeros(shape, dtype=torch.bool)
            for row, cursors in enumerate(self.cursors):
                for beam, cursor in enumerate(cursors):
                    if cursor is not None:
                        allowed[row, beam] = torch.from_numpy(cursor.allowed_tokens(self.max_new_tokens - step))
            log_p = log_p.clamp_min(MIN_LOGIT).masked_fill(~allowed.to(log_p.device), -torch.inf)
        return raw, log_p

    def _end(self, raw: Tensor, log_p: Tensor, step: int) -> None:
        """Add the hypotheses that end each unfinished text with the end token now."""
        end = self.tokenizer.eos_id
        ends = self.total + log_p[..., end]  # [active, beams]
        if not self._may_end(ends, step):
            return
        ends, own, last, tokens = ends.cpu(), self.scores.cpu(), raw[..., end].cpu(), self.tokens.cpu()
        for row, beam in torch.isfinite(ends).nonzero().tolist():
            scores = [*own[row, beam].tolist(), float(last[row, beam])]
            self._finish(row, float(ends[row, beam]), tokens[row, beam].tolist(), scores, "end")

    def _may_end(self, ends: Tensor, step: int) -> bool:
        """Whether an end is good enough for any row, which avoids a check of each row."""
        thresholds = [self._threshold(row) for row in range(len(self.active))]
        best = ends.amax(1) / self._length_norm(step + 1)
        return bool((best > torch.tensor(thresholds, device=ends.device)).any())

    def _continue(self, raw: Tensor, log_p: Tensor, step: int) -> None:
        """Replace the unfinished texts of each row by their best continuations; finish those with a stop string."""
        rows, beams, vocabulary = log_p.shape
        continuations = self.total.unsqueeze(-1) + log_p  # [active, beams, vocabulary]
        continuations[..., self.tokenizer.eos_id] = -torch.inf
        candidates = self.config.num_beams * (4 if self.constrained else 1)
        best, index = continuations.view(rows, -1).topk(min(candidates, beams * vocabulary), dim=1)
        parents, tokens = index // vocabulary, index % vocabulary
        if self.constrained:
            best, parents, tokens = self._constrained_candidates(best, parents, tokens, log_p, step)
        self.total, self.parents = best, parents
        row = torch.arange(rows, device=log_p.device).unsqueeze(1)
        self.tokens = torch.cat([self.tokens[row, parents], tokens.unsqueeze(-1)], dim=-1)
        self.scores = torch.cat([self.scores[row, parents], raw[row, parents, tokens].unsqueeze(-1)], dim=-1)
        if self.stops.stops:
            reached = torch.tensor(self.stops.reached(self.tokens.flatten(0, 1).tolist()), device=best.device)
            self._finish_all(reached.view(best.shape), "stop")

    def _constrained_candidates(
        self, best: Tensor, parents: Tensor, tokens: Tensor, log_p: Tensor, step: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The best of the candidates `[active, n]` whose texts can be completed in the remaining tokens.

        If there are fewer than `num_beams`, each text is also continued with the next token of its completion.
        """
        left = self.max_new_tokens - step - 1
        beams = min(self.config.num_beams, best.shape[1])
        total = torch.full((len(best), beams), -torch.inf)
        origins = torch.zeros(2, len(best), beams, dtype=torch.int64)  # parent and token
        cursors: list[list[Cursor | None]] = []
        for row, candidates in enumerate(zip(best.tolist(), parents.tolist(), tokens.tolist(), strict=True)):
            kept: list[Cursor | None] = []
            completions = []
            for parent, cursor in enumerate(self.cursors[row]):
                if cursor is not None and (token := cursor.next_token_to_finish()) != self.tokenizer.eos_id:
                    completions.append((float(self.total[row, parent] + log_p[row, parent, token]), parent, token))
            seen: set[tuple[int, int]] = set()
            for value, parent, token in [*zip(*candidates, strict=True), *sorted(completions, reverse=True)]:
                cursor = self.cursors[row][parent]
                if len(kept) == beams:
                    break
                if value == -torch.inf or cursor is None or (parent, token) in seen:
                    continue
                following = cursor.copy()
                if following.advance(token, left):
                    seen.add((parent, token))
                    total[row, len(kept)] = value
                    origins[0, row, len(kept)], origins[1, row, len(kept)] = parent, token
                    kept.append(following)
            cursors.append([*kept, *[None] * (beams - len(kept))])
        self.cursors = cursors
        total, origins = total.to(best.device), origins.to(best.device)
        return total, origins[0], origins[1]

    def _unfinished(self, step: int) -> list[int]:
        """The active rows that continue after this step."""
        if step + 1 == self.max_new_tokens:
            self._finish_all(torch.ones_like(self.total, dtype=torch.bool), "length")
            return []
        bounds = (self.total.amax(1) / self._length_norm(self.max_new_tokens)).tolist()
        return [row for row, bound in enumerate(bounds) if bound > self._threshold(row)]

    def _finish_all(self, which: Tensor, finish_reason: FinishReason) -> None:
        total, tokens, scores = self.total.cpu(), self.tokens.cpu(), self.scores.cpu()
        for row, beam in (which.cpu() & torch.isfinite(total)).nonzero().tolist():
            own = scores[row, beam].tolist()
            self._finish(row, float(total[row, beam]), tokens[row, beam].tolist(), own, finish_reason)
        self.total = self.total.masked_fill(which, -torch.inf)

    def _finish(
        self, row: int, total: float, tokens: list[int], scores: list[float], finish_reason: FinishReason
    ) -> None:
        value = total / self._length_norm(len(scores))
        if value > self._threshold(row):
            hypotheses = self.hypotheses[self.active[row]]
            hypotheses.append(Hypothesis(value, tokens, scores, finish_reason))
            hypotheses.sort(key=lambda hypothesis: -hypothesis.value)
            del hypotheses[self.config.num_return_sequences :]

    def _threshold(self, row: int) -> float:
        """The value that a new hypothesis must exceed."""
        hypotheses = self.hypotheses[self.active[row]]
        return hypotheses[-1].value if len(hypotheses) == self.config.num_return_sequences else -torch.inf

    def _length_norm(self, length: int) -> float:
        return float(length**self.config.length_penalty)
