"""Towers: each input on its way to the fusion, and what they make of the inputs of a batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from polymodal.core.types import Batch, InputBatch, Tokens
from polymodal.nn.encoders.base import Encoder


class Tower(nn.Module):
    """One input on its way to the fusion: encode distinct items, project, normalise, give each row its tokens.

    Every input is normalised before fusion: without it most fusions stay on the answer prior
    (docs/explanation/design.md). A row that lacks the input gets the learned "missing" token at its first position, and `present` False.
    """

    def __init__(self, encoder: Encoder, width: int, chunk: int | None = None) -> None:
        super().__init__()
        self.encoder, self.chunk = encoder, chunk
        self.project = nn.Identity() if encoder.width == width else nn.Linear(encoder.width, width)
        self.norm = nn.LayerNorm(width)
        self.missing = nn.Parameter(torch.randn(width) * 0.02)

    def forward(self, batch: InputBatch, *, encoded: bool = False) -> tuple[Tokens, Tokens | None]:
        """Tokens of each row, `[batch, length, width]`.

        encoded: also give what the encoder gave, as it gave it; None where no row of this batch has the input
        """
        present = batch.present
        rows = len(present)
        if next(iter(batch.data.values())).shape[0] == 0:  # no row of this batch has the input
            features = self.missing.expand(rows, 1, -1)
            return Tokens(features, torch.ones(rows, 1, dtype=torch.bool, device=features.device), present), None
        if "hidden" in batch.data and self.encoder.still:
            features, mask = self.encoder.final(batch.data)
        elif self.chunk is None or not (self.training and torch.is_grad_enabled()):
            features, mask = self.encoder(batch.data)
        else:
            features, mask = self._encode_in_chunks(batch.data, self.chunk)
        times = self.encoder.token_times(batch.data, features.shape[1])
        given = features if encoded else None
        features = self.norm(self.project(features))
        if len(features) != rows or not torch.equal(batch.index, torch.arange(rows, device=batch.index.device)):
            features, mask = features.index_select(0, batch.index), mask.index_select(0, batch.index)
            times = None if times is None else times.index_select(0, batch.index)
            given = None if given is None else given.index_select(0, batch.index)
        as_given = None if given is None else Tokens(given, mask, present, times)
        return self.without(Tokens(features, mask, present, times), ~present), as_given

    def without(self, tokens: Tokens, absent: Tensor) -> Tokens:
        """The tokens with the learned "missing" token alone in the rows where `absent [batch]` is True."""
        if not bool(absent.any()):
            return tokens
        first = torch.zeros_like(tokens.mask)
        first[:, 0] = True
        mask = torch.where(absent.unsqueeze(1), first, tokens.mask)
        place = (first & absent.unsqueeze(1)).unsqueeze(-1)
        features = torch.where(place, self.missing.to(tokens.features.dtype), tokens.features)
        return Tokens(features, mask, tokens.present & ~absent, tokens.times)

    def _encode_in_chunks(self, data: dict[str, Tensor], chunk: int) -> tuple[Tensor, Tensor]:
        """What the encoder makes of the distinct items, `chunk` of them at once; what it computes on the way is
        forgotten, and computed again on the way back."""
        items = next(iter(data.values())).shape[0]
        if items <= chunk:
            found: tuple[Tensor, Tensor] = self.encoder(data)
            return found
        parts = [{key: one[place : place + chunk] for key, one in data.items()} for place in range(0, items, chunk)]
        found_parts = [checkpoint(self.encoder, part, use_reentrant=False) for part in parts]
        return torch.cat([features for features, _ in found_parts]), torch.cat([mask for _, mask in found_parts])


class EncodedInputs(NamedTuple):
    """The inputs of a batch before fusion, by name: their `tokens`, and, where a decoder asks for it, what the encoders
    gave (`given`)."""

    tokens: Mapping[str, Tokens]
    given: dict[str, Tokens]


class LazyInputTokens(Mapping[str, Tokens]):
    """The tokens of every input of a batch by name, each encoded when it is first asked for."""

    def __init__(self, towers: Mapping[str, Tower], batch: Batch) -> None:
        self._towers, self._batch = towers, batch
        self._found: dict[str, Tokens] = {}

    def __getitem__(self, name: str) -> Tokens:
        if name not in self._found:
            self._found[name], _ = self._towers[name](self._batch.inputs[name])
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._towers)

    def __len__(self) -> int:
        return len(self._towers)
