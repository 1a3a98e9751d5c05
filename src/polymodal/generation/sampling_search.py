"""Texts that are written side by side, each by its own choices: the likeliest token each time, or draws."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from polymodal.generation.config import GenerationConfig
from polymodal.generation.constraints.base import Constraint
from polymodal.generation.output import FinishReason
from polymodal.generation.sampling_distribution import RowSeededUniforms, drawn, apply_repetition_penalty, probabilities
from polymodal.generation.stop_strings import StopStrings
from polymodal.generation.tokenizer import TextTokenizer
from polymodal.nn.decoders.text_decoder import DecodingState

#: Below every logit: what an impossible token has where a constraint leaves no other.
LOWEST = -1e30


class SampleSearch:
    """`samples` texts for each row.

    tokens, scores: `[texts, room]`, the tokens so far without the end, -1 behind them, and their log-probabilities
    lengths: `[texts]`, how many tokens each text has; `ended` says why a text that is not in `place` any more ended
    place: `[live]`, the texts that are still being written, in the order of the draft's rows
    """

    def __init__(
        self,
        draft: DecodingState,
        numbers: Sequence[int],
        writing: GenerationConfig,
        codec: TextTokenizer,
        steps: int,
        constraint: Constraint | None,
    ) -> None:
        self.draft, self.writing, self.codec, self.steps = draft, writing, codec, steps
        self.rows, texts = len(numbers), len(numbers) * writing.samples
        self.place = torch.arange(texts)
        self.tokens = torch.full((texts, min(steps, 64)), -1, dtype=torch.int64)
        self.scores = torch.zeros(texts, min(steps, 64))
        self.lengths = torch.zeros(texts, dtype=torch.int64)
        self.ended: list[FinishReason] = ["length"] * texts
        self.stops = StopStrings(writing.stop, codec)
        self.draws = RowSeededUniforms(writing.seed, numbers, writing.samples) if writing.temperature > 0 else None
        self.cursors = None if constraint is None else [constraint.start(steps) for _ in range(texts)]

    def write(self) -> Iterator[None]:
        """Write, stopping after each token of all texts."""
        logits = self.draft.step(None)
        self.place, self.tokens, self.scores, self.lengths = (
            one.to(logits.device) for one in (self.place, self.tokens, self.scores, self.lengths)
        )
        if self.writing.samples > 1:
            copies = torch.arange(self.rows, device=logits.device).repeat_interleave(self.writing.samples)
            self.draft.select(copies)
            logits = logits.index_select(0, copies)
        for step in range(self.steps):
            chosen = self._chosen(logits, step)
            kept = self._append(chosen, logits, step)
            yield
            if step + 1 == self.steps or (kept is not None and len(kept) == 0):
                return
            if kept is not None:
                self.draft.select(kept)
                chosen, self.place = chosen[kept], self.place[kept]
            logits = self.draft.step(chosen)

    def _chosen(self, logits: Tensor, step: int) -> Tensor:
        if self.writing.repetition_penalty != 1:
            logits = apply_repetition_penalty(logits, self.tokens[self.place, :step], self.writing.repetition_penalty)
        if self.cursors is not None:
            left = self.steps - step
            allowed = torch.stack([torch.from_numpy(self.cursors[text].allowed(left)) for text in self.place.tolist()])
            logits = logits.clamp_min(LOWEST).masked_fill(~allowed.to(logits.device), -torch.inf)
        if self.draws is None:
            chosen = logits.argmax(-1)
        else:
            chosen = drawn(probabilities(logits, self.writing), self.draws.uniform(self.place, step))
        return chosen if self.cursors is None else self._held(chosen, self.steps - step - 1)

    def _held(self, chosen: Tensor, left: int) -> Tensor:
        """The chosen tokens; where the text could then not be finished in `left` tokens, the next of those that
        finish it."""
        found = chosen.tolist()
        for at, text in enumerate(self.place.tolist()):
            cursor = self.cursors[text]  # type: ignore[index]
            if found[at] != self.codec.end and not cursor.advance(found[at], left):
                found[at] = cursor.closing()
                if found[at] != self.codec.end:
                    cursor.advance(found[at], left)
        return chosen.new_tensor(found)

    def _append(self, chosen: Tensor, logits: Tensor, step: int) -> Tensor | None:
        """Append to the texts in `place`; the rows of those that go on, None where all do."""
        if step == self.tokens.shape[1]:
            more = min(self.steps, 2 * step) - step
            self.tokens = torch.nn.functional.pad(self.tokens, (0, more), value=-1)
            self.scores = torch.nn.functional.pad(self.scores, (0, more))
        self.scores[self.place, step] = logits.gather(1, chosen.unsqueeze(1)).squeeze(1) - logits.logsumexp(-1)
        done = chosen == self.codec.end
        going = ~done
        self.tokens[self.place, step] = torch.where(done, -1, chosen)
        self.lengths[self.place] += going
        for text in self.place[done].tolist():
            self.ended[text] = "end"
        if self.stops.stops:
            rows = going.nonzero().squeeze(1)
            texts = self.tokens[self.place[rows], : step + 1].tolist()
            reached = torch.tensor(self.stops.reached(texts), dtype=torch.bool, device=rows.device)
            for text in self.place[rows[reached]].tolist():
                self.ended[text] = "stop"
            going[rows[reached]] = False
        return None if bool(going.all()) else going.nonzero().squeeze(1)

    def found(self) -> list[tuple[list[int], list[float], FinishReason]]:
        """Tokens, log-probabilities (of the end too) and the reason to end of each text."""
        ends = zip(self.tokens.tolist(), self.scores.tolist(), self.lengths.tolist(), self.ended, strict=True)
        return [(ids[:n], scores[: n + (ended == "end")], ended) for ids, scores, n, ended in ends]
