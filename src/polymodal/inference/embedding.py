"""Embeddings of the rows of a batch: of single inputs, or of whole rows."""

from __future__ import annotations

import torch
from torch import Tensor

from polymodal.core.types import Batch, Tokens
from polymodal.nn.decoders.embed import Embed
from polymodal.nn.layers.embedding_head import l2_normalize
from polymodal.nn.network import Network
from polymodal.nn.objectives.alignment import Alignment


def alignment_of(network: Network) -> Alignment | None:
    """The first alignment objective of a network; None if there is none."""
    return next((one for one in network.objectives.values() if isinstance(one, Alignment)), None)


def embed_inputs(network: Network, batch: Batch, names: list[str]) -> dict[str, Tensor]:
    """The embedding of each input in `names`, `[batch, dim]` of unit length, NaN for rows without the input.

    An input of an alignment objective is embedded in the shared space. Any other embedding is the mean of the tokens.
    Only the inputs in `names` are encoded.
    """
    alignment = alignment_of(network)
    found = {}
    for name in names:
        tokens, _ = network.towers[name](batch.inputs[name])
        found[name] = _where(tokens.present, _embedded(alignment, name, tokens))
    return found


def embed_rows(network: Network, batch: Batch) -> Tensor:
    """The embedding of each whole row, `[batch, dim]` of unit length, NaN for rows without any input.

    The embedding is the output of a decoder `embed`, if there is one; else the mean embedding of the inputs in the
    space of the alignment objective; else the pooled output of the fusion.
    """
    encoded = network.encode(batch)
    present = torch.stack([one.present for one in encoded.tokens.values()]).any(0)
    alignment = alignment_of(network)
    embeds = [
        name for name, one in network.decoders.items() if any(isinstance(branch, Embed) for branch in one.values())
    ]
    if embeds:
        return _where(present, l2_normalize(network.decode(network.fuse(encoded, len(batch)), batch)[embeds[0]].values))
    if alignment is not None:
        tokens = {name: encoded.tokens[name] for name in alignment.inputs}
        vectors = [alignment.embed(name, one) * one.present.unsqueeze(1) for name, one in tokens.items()]
        there = torch.stack([one.present for one in tokens.values()]).any(0)
        return _where(there, l2_normalize(torch.stack(vectors).sum(0)))
    branches = network.fuse(encoded, len(batch))
    weight = torch.stack([branch.weight for branch in branches]).unsqueeze(2)
    return _where(present, l2_normalize((torch.stack([branch.pooled for branch in branches]) * weight).sum(0)))


def _embedded(alignment: Alignment | None, name: str, tokens: Tokens) -> Tensor:
    if alignment is not None and name in alignment.inputs:
        return alignment.embed(name, tokens)
    return l2_normalize(tokens.pooled())


def _where(present: Tensor, vectors: Tensor) -> Tensor:
    return torch.where(present.unsqueeze(1), vectors.float(), torch.nan)
