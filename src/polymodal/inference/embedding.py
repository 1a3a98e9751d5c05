"""Embed prepared rows: one vector of unit length for each."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from polymodal.core.types import Batch, Tokens
from polymodal.data.sampler import sequential
from polymodal.inference.inference import bounded, grouping
from polymodal.nn.decoders.embed import Embed
from polymodal.nn.layers.embedding import unit
from polymodal.nn.network import Network
from polymodal.nn.objectives.alignment import Alignment
from polymodal.preparation.preparation import Preparation, PreparedTable
from polymodal.runtime.compute import Machine


def alignment_of(network: Network) -> Alignment | None:
    """The first objective that aligns inputs; None where there is none."""
    return next((one for one in network.objectives.values() if isinstance(one, Alignment)), None)


def embed_rows(
    network: Network,
    preparation: Preparation,
    prepared: PreparedTable,
    rows: np.ndarray,
    *,
    inputs: list[str] | None,
    machine: Machine,
    batch: int,
) -> dict[str, np.ndarray]:
    """The embedding of each of `inputs` in each of `rows`, in evaluation mode: float32 `[rows, size]` of unit length,
    NaN in rows that lack the input. Without `inputs`: of the whole row, under the name "row".

    An input that is aligned with others is embedded in their common space, any other as the mean of its tokens. A whole
    row is what a decoder `embed` makes of it; without one the mean of its inputs' embeddings in the common space;
    without that what the fusion makes of it.
    """
    network.eval()
    names = ["row"] if inputs is None else inputs
    gathered: dict[str, list[Tensor]] = {name: [] for name in names}
    visited: list[np.ndarray] = []
    with torch.inference_mode(), machine.active():
        for places in sequential(np.arange(len(rows)), bounded(batch, prepared, network), *grouping(prepared, rows)):
            one = preparation.batch(prepared, rows[places])
            found = {"row": _row(network, one)} if inputs is None else _inputs(network, one, inputs)
            for name, (vectors, present) in found.items():
                gathered[name].append(torch.where(present.unsqueeze(1), vectors.float(), torch.nan))
            visited.append(places)
    back = torch.from_numpy(np.argsort(np.concatenate(visited), kind="stable")) if visited else None
    return {
        name: np.zeros((0, 0), np.float32) if back is None else torch.cat(parts).index_select(0, back).numpy()
        for name, parts in gathered.items()
    }


def _inputs(network: Network, batch: Batch, names: list[str]) -> dict[str, tuple[Tensor, Tensor]]:
    """Only the inputs that are asked for are encoded."""
    alignment = alignment_of(network)
    found = {}
    for name in names:
        tokens, _ = network.towers[name](batch.inputs[name])
        found[name] = _embedded(alignment, name, tokens), tokens.present
    return found


def _embedded(alignment: Alignment | None, name: str, tokens: Tokens) -> Tensor:
    if alignment is not None and name in alignment.inputs:
        return alignment.embed(name, tokens)
    return unit(tokens.pooled())


def _row(network: Network, batch: Batch) -> tuple[Tensor, Tensor]:
    encoded = network.encode(batch)
    present = torch.stack([one.present for one in encoded.tokens.values()]).any(0)
    alignment = alignment_of(network)
    embeds = [name for name, one in network.decoders.items() if any(isinstance(view, Embed) for view in one.values())]
    if embeds:
        return unit(network.decide(network.fuse(encoded, len(batch)), batch)[embeds[0]].values), present
    if alignment is not None:
        tokens = {name: encoded.tokens[name] for name in alignment.inputs}
        vectors = [alignment.embed(name, one) * one.present.unsqueeze(1) for name, one in tokens.items()]
        there = torch.stack([one.present for one in tokens.values()]).any(0)
        return unit(torch.stack(vectors).sum(0)), there
    views = network.fuse(encoded, len(batch))
    weight = torch.stack([view.weight for view in views]).unsqueeze(2)
    return unit((torch.stack([view.pooled for view in views]) * weight).sum(0)), present
