"""The loop that writes."""

from __future__ import annotations

import torch

from polymodal.decoders.writer import Draft
from polymodal.generation.codec import Codec
from polymodal.generation.options import Writing
from polymodal.generation.written import Written


def write(draft: Draft, rows: int, writing: Writing, codec: Codec, steps: int) -> list[list[Written]]:
    """Write a text in each of `rows` rows, at most `steps` tokens long; `writing.samples` texts for each row."""
    tokens: list[list[int]] = [[] for _ in range(rows)]
    scores = [0.0] * rows
    ended = [False] * rows
    place = list(range(rows))
    last = None
    for _ in range(steps):
        logits = draft.step(last)
        said = logits.log_softmax(-1)
        chosen = said.argmax(-1)
        score = said.gather(1, chosen.unsqueeze(1)).squeeze(1).tolist()
        going = []
        for at, (row, token) in enumerate(zip(place, chosen.tolist(), strict=True)):
            scores[row] += score[at]
            if token == codec.end:
                ended[row] = True
            else:
                tokens[row].append(token)
                going.append(at)
        if not going:
            break
        if len(going) < len(place):
            kept = torch.tensor(going)
            draft.select(kept)
            chosen, place = chosen[kept], [place[at] for at in going]
        last = chosen
    texts = codec.decode(tokens)
    return [
        [Written(text, ids, score, "end" if done else "length")]
        for text, ids, score, done in zip(texts, tokens, scores, ended, strict=True)
    ]
