"""Towers: the encoder, projection and normalization of each input."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from polymodal.core.types import Batch, InputBatch, Tokens
from polymodal.distributed.world import World
from polymodal.nn.encoders.base import Encoder
from polymodal.nn.layers.shared_batch import SharesBatch, has_batch_statistics, without_rows
from polymodal.runtime.host_reads import can_read


class Tower(nn.Module, SharesBatch):
    """The path of one input to the fusion: encode distinct items, project, normalize, and assign the tokens to the
    rows.

    Every input is normalized before fusion: without normalization most fusions only learn the prior of the targets
    (docs/explanation/fusion.md). A row that lacks the input gets the learned "missing" token at its first position, and
    `present` False.

    chunk_size: number of items that are encoded at once in training, with activation checkpointing; None: all items
    has_shared_layers: whether several processes hold the parameters of layers together, so that all run the encoder or
        none does
    joins_others: whether another process has items of this input in this step
    """

    has_shared_layers = False
    joins_others = False

    def __init__(self, encoder: Encoder, width: int, chunk_size: int | None = None) -> None:
        super().__init__()
        self.encoder, self.chunk_size = encoder, chunk_size
        self.project = nn.Identity() if encoder.width == width else nn.Linear(encoder.width, width)
        self.norm = nn.LayerNorm(width)
        self.missing = nn.Parameter(torch.randn(width) * 0.02)

    def forward(self, batch: InputBatch, *, return_encoder_outputs: bool = False) -> tuple[Tokens, Tokens | None]:
        """Tokens of each row, `[batch, length, width]`.

        return_encoder_outputs: also return the output of the encoder before projection; None if no row of this batch
            has the input
        """
        present = batch.present
        rows = present.shape[0]
        if next(iter(batch.data.values())).shape[0] == 0:  # no row of this batch has the input
            features = self.missing.expand(rows, 1, -1)
            needs_statistics = self.training and self.world.size > 1 and has_batch_statistics(self.encoder)
            if self.joins_others or needs_statistics:
                features = features + self._encode_nothing(batch.data)
            mask = torch.ones(rows, 1, dtype=torch.bool, device=features.device)
            return Tokens(features, mask, present, grid=self.encoder.token_grid(1)), None
        if "hidden" in batch.data and self.encoder.is_frozen:
            features, mask = self.encoder.forward_cached(batch.data)
        elif self.chunk_size is None or not (self.training and torch.is_grad_enabled()):
            features, mask = self.encoder(batch.data)
        else:
            features, mask = self._encode_in_chunks(batch.data, self.chunk_size)
        times = self.encoder.token_times(batch.data, features.shape[1])
        raw = features if return_encoder_outputs else None
        features = self.norm(self.project(features))  # [items, length, width]
        if features.shape[0] != rows or not _is_in_order(batch.index):
            features, mask = features.index_select(0, batch.index), mask.index_select(0, batch.index)
            times = None if times is None else times.index_select(0, batch.index)
            raw = None if raw is None else raw.index_select(0, batch.index)
        encoder_output = None if raw is None else Tokens(raw, mask, present, times)
        grid = self.encoder.token_grid(features.shape[1])
        return self.with_missing(Tokens(features, mask, present, times, grid), ~present), encoder_output

    def _encode_nothing(self, data: dict[str, Tensor]) -> Tensor:
        """0, after encoding an item that counts nowhere: the encoder takes part in the sums of all processes."""
        with without_rows(self.encoder):
            sizes = {name: [max(1, size) for size in tensor.shape[1:]] for name, tensor in data.items()}
            features, _ = self.encoder({name: tensor.new_ones(1, *sizes[name]) for name, tensor in data.items()})
        nothing: Tensor = 0 * features.sum()
        return nothing

    def with_missing(self, tokens: Tokens, missing: Tensor) -> Tokens:
        """The tokens with only the learned "missing" token in the rows where `missing [batch]` is True."""
        if can_read(missing) and not bool(missing.any()):
            return tokens
        first = torch.zeros_like(tokens.mask)
        first[:, 0] = True
        replaced = first & missing.unsqueeze(1)
        mask = replaced | (tokens.mask & ~missing.unsqueeze(1))  # ONNX Runtime has no `where` of booleans
        features = torch.where(replaced.unsqueeze(-1), self.missing.to(tokens.features.dtype), tokens.features)
        return replace(tokens, features=features, mask=mask, present=tokens.present & ~missing)

    def _encode_in_chunks(self, data: dict[str, Tensor], chunk_size: int) -> tuple[Tensor, Tensor]:
        """Encode the distinct items in chunks of `chunk_size`. Activations are recomputed in the backward pass."""
        items = next(iter(data.values())).shape[0]
        if items <= chunk_size:
            encoded: tuple[Tensor, Tensor] = self.encoder(data)
            return encoded
        starts = range(0, items, chunk_size)
        chunks = [{key: tensor[start : start + chunk_size] for key, tensor in data.items()} for start in starts]
        outputs = [checkpoint(self.encoder, chunk, use_reentrant=False) for chunk in chunks]
        return torch.cat([features for features, _ in outputs]), torch.cat([mask for _, mask in outputs])


def _is_in_order(index: Tensor) -> bool:
    """Whether item i belongs to row i, where that can be read; False on an accelerator."""
    return can_read(index) and torch.equal(index, torch.arange(index.shape[0]))


class EncodedInputs(NamedTuple):
    """The inputs of a batch before fusion, by name.

    tokens: the tokens of each input
    encoder_outputs: the output of the encoder of each input before projection, if a decoder needs it
    """

    tokens: Mapping[str, Tokens]
    encoder_outputs: dict[str, Tokens]


class LazyInputTokens(Mapping[str, Tokens]):
    """The tokens of every input of a batch by name; each input is encoded on first access."""

    def __init__(self, towers: Mapping[str, Tower], batch: Batch) -> None:
        self._towers, self._batch = towers, batch
        self._encoded: dict[str, Tokens] = {}

    def __getitem__(self, name: str) -> Tokens:
        if name not in self._encoded:
            self._encoded[name], _ = self._towers[name](self._batch.inputs[name])
        return self._encoded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._towers)

    def __len__(self) -> int:
        return len(self._towers)


def mark_items(towers: Mapping[str, Tower], batch: Batch, world: World) -> None:
    """Tell the towers with shared layers whether any process has an item of their input in this batch: then all run
    them."""
    shared = {name: tower for name, tower in towers.items() if tower.has_shared_layers}
    if shared:
        items = [float(len(next(iter(batch.inputs[name].data.values())))) for name in shared]
        for tower, count in zip(shared.values(), world.sum(torch.tensor(items)).tolist(), strict=True):
            tower.joins_others = count > 0
