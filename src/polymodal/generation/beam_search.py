"""Beam search: the likeliest whole texts, of many that are kept side by side."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from polymodal.generation.config import GenerationConfig
from polymodal.generation.constraints.base import Constraint, Cursor
from polymodal.generation.output import FinishReason
from polymodal.generation.sampling_distribution import apply_repetition_penalty
from polymodal.generation.sampling_search import LOWEST
from polymodal.generation.stop_strings import StopStrings
from polymodal.generation.tokenizer import TextTokenizer
from polymodal.nn.decoders.text_decoder import DecodingState


@dataclass(frozen=True)
class Hypothesis:
    """A text that is done; `value` is its log-probability (after the repetition penalty) / length^length_penalty."""

    value: float
    tokens: list[int]
    scores: list[float]
    ended: FinishReason


class BeamSearch:
    """For each row, the best `samples` texts by

        log p(text) / length^length_penalty,    length = number of tokens, the end included.

    A row keeps its `beams` likeliest unfinished texts; every way to end any of them is weighed against the best that
    are finished. It is done when no unfinished text could still beat those, however long it became:
    log p / steps^length_penalty bounds all its continuations, as log p only falls. Texts that are cut at `steps`
    tokens are outcomes like others (Sutskever et al., "Sequence to Sequence Learning with Neural Networks", 2014; the
    length as in Wu et al., "Google's Neural Machine Translation System", 2016, without their constant).

    tokens: `[rows, beams, length]`, of the unfinished texts of rows that are not done; `scores` in the same way, of
        each token as the decoder gave it; `total [rows, beams]`, log p, -inf for a beam without a text
    """

    def __init__(
        self, draft: DecodingState, rows: int, writing: GenerationConfig, codec: TextTokenizer, steps: int, constraint: Constraint | None
    ) -> None:
        self.draft, self.writing, self.codec, self.steps = draft, writing, codec, steps
        self.finished: list[list[Hypothesis]] = [[] for _ in range(rows)]
        self.place = list(range(rows))
        self.tokens = torch.zeros(rows, 1, 0, dtype=torch.int64)
        self.scores = torch.zeros(rows, 1, 0)
        self.total = torch.zeros(rows, 1)
        self.stops = StopStrings(writing.stop, codec)
        self.cursors: list[list[Cursor | None]] = [
            [None if constraint is None else constraint.start(steps)] for _ in range(rows)
        ]
        self.held = constraint is not None

    def search(self) -> list[list[Hypothesis]]:
        """The best texts of each row, the best first; fewer than `samples` where there are no more."""
        logits = self.draft.step(None)
        device = logits.device
        self.tokens, self.scores, self.total = (one.to(device) for one in (self.tokens, self.scores, self.total))
        for step in range(self.steps):
            raw, said = self._said(logits, step)
            self._end(raw, said, step)
            self._continue(raw, said, step)
            live = self._live(step)
            if not live:
                break
            rows = torch.tensor(live, device=device)
            beams = self.total.shape[1]
            before = self.parents + torch.arange(len(self.place), device=device).unsqueeze(1) * raw.shape[1]
            kept = before[rows].reshape(-1)
            if not torch.equal(kept, torch.arange(len(logits), device=device)):
                self.draft.select(kept)
            self.tokens, self.scores, self.total = self.tokens[rows], self.scores[rows], self.total[rows]
            self.cursors, self.place = [self.cursors[at] for at in live], [self.place[at] for at in live]
            logits = self.draft.step(self.tokens[..., -1].reshape(len(live) * beams))
        return self.finished

    def _said(self, logits: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Log-probabilities of next tokens `[rows, beams, vocabulary]`: as the decoder gave them, and to search by."""
        shape = (*self.total.shape, logits.shape[-1])
        raw = logits.log_softmax(-1)
        said = raw
        if self.writing.repetition_penalty != 1:
            said = apply_repetition_penalty(logits, self.tokens.flatten(0, 1), self.writing.repetition_penalty).log_softmax(-1)
        raw, said = raw.view(shape), said.view(shape)
        if self.held:
            allowed = torch.zeros(shape, dtype=torch.bool)
            for row, cursors in enumerate(self.cursors):
                for beam, cursor in enumerate(cursors):
                    if cursor is not None:
                        allowed[row, beam] = torch.from_numpy(cursor.allowed(self.steps - step))
            said = said.clamp_min(LOWEST).masked_fill(~allowed.to(said.device), -torch.inf)
        return raw, said

    def _end(self, raw: Tensor, said: Tensor, step: int) -> None:
        """Weigh the ends of all unfinished texts."""
        end = self.codec.end
        ends = self.total + said[..., end]
        for row, beam in torch.isfinite(ends).nonzero().tolist() if self._may_end(ends, step) else []:
            scores = [*self.scores[row, beam].tolist(), float(raw[row, beam, end])]
            self._finish(row, float(ends[row, beam]), self.tokens[row, beam].tolist(), scores, "end")

    def _may_end(self, ends: Tensor, step: int) -> bool:
        """Whether an end is good enough for any row, which spares looking at each."""
        worst = [self._worst(row) for row in range(len(self.place))]
        return bool((ends.amax(1) / self._length(step + 1) > torch.tensor(worst, device=ends.device)).any())

    def _continue(self, raw: Tensor, said: Tensor, step: int) -> None:
        """Take the best continuations of each row as its unfinished texts; those that come to a stop are done."""
        rows, beams, vocabulary = said.shape
        going = self.total.unsqueeze(-1) + said
        going[..., self.codec.end] = -torch.inf
        wide = self.writing.beams * (4 if self.held else 1)
        best, place = going.view(rows, -1).topk(min(wide, beams * vocabulary), dim=1)
        parents, tokens = place // vocabulary, place % vocabulary
        if self.held:
            best, parents, tokens = self._held(best, parents, tokens, said, step)
        self.total, self.parents = best, parents
        at = torch.arange(rows, device=said.device).unsqueeze(1)
        self.tokens = torch.cat([self.tokens[at, parents], tokens.unsqueeze(-1)], dim=-1)
        self.scores = torch.cat([self.scores[at, parents], raw[at, parents, tokens].unsqueeze(-1)], dim=-1)
        if self.stops.stops:
            reached = torch.tensor(self.stops.reached(self.tokens.flatten(0, 1).tolist()), device=best.device)
            self._finish_all(reached.view(best.shape), "stop")

    def _held(
        self, best: Tensor, parents: Tensor, tokens: Tensor, said: Tensor, step: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Of candidates `[rows, n]`, the best whose texts can be finished in the tokens that are left; where they are
        too few, texts go on as they can be finished."""
        left = self.steps - step - 1
        beams = min(self.writing.beams, best.shape[1])
        total = torch.full((len(best), beams), -torch.inf)
        taken = torch.zeros(2, len(best), beams, dtype=torch.int64)
        cursors: list[list[Cursor | None]] = []
        for row, candidates in enumerate(zip(best.tolist(), parents.tolist(), tokens.tolist(), strict=True)):
            own: list[Cursor | None] = []
            finishing = [
                (float(self.total[row, parent] + said[row, parent, cursor.closing()]), parent, cursor.closing())
                for parent, cursor in enumerate(self.cursors[row])
                if cursor is not None and cursor.closing() != self.codec.end
            ]
            found: set[tuple[int, int]] = set()
            for value, parent, token in [*zip(*candidates, strict=True), *sorted(finishing, reverse=True)]:
                cursor = self.cursors[row][parent]
                if len(own) == beams:
                    break
                if value == -torch.inf or cursor is None or (parent, token) in found:
                    continue
                after = cursor.copy()
                if after.advance(token, left):
                    found.add((parent, token))
                    total[row, len(own)] = value
                    taken[0, row, len(own)], taken[1, row, len(own)] = parent, token
                    own.append(after)
            cursors.append([*own, *[None] * (beams - len(own))])
        self.cursors = cursors
        total, taken = total.to(best.device), taken.to(best.device)
        return total, taken[0], taken[1]

    def _live(self, step: int) -> list[int]:
        """The rows that go on."""
        if step + 1 == self.steps:
            self._finish_all(torch.ones_like(self.total, dtype=torch.bool), "length")
            return []
        bounds = (self.total.amax(1) / self._length(self.steps)).tolist()
        return [row for row, bound in enumerate(bounds) if bound > self._worst(row)]

    def _finish_all(self, which: Tensor, ended: FinishReason) -> None:
        for row, beam in (which & torch.isfinite(self.total)).nonzero().tolist():
            tokens, scores = self.tokens[row, beam].tolist(), self.scores[row, beam].tolist()
            self._finish(row, float(self.total[row, beam]), tokens, scores, ended)
        self.total = self.total.masked_fill(which, -torch.inf)

    def _finish(self, row: int, total: float, tokens: list[int], scores: list[float], ended: FinishReason) -> None:
        value = total / self._length(len(scores))
        if value > self._worst(row):
            own = self.finished[self.place[row]]
            own.append(Hypothesis(value, tokens, scores, ended))
            own.sort(key=lambda one: -one.value)
            del own[self.writing.samples :]

    def _worst(self, row: int) -> float:
        """What a text must beat to count."""
        own = self.finished[self.place[row]]
        return own[-1].value if len(own) == self.writing.samples else -torch.inf

    def _length(self, length: int) -> float:
        return float(length**self.writing.length_penalty)
