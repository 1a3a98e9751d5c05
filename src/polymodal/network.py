"""The network: towers (one per input) -> fusion -> decoders. It knows nothing about tables or training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from polymodal.encoders.base import Encoder
from polymodal.fusion.base import Fusion
from polymodal.recipe.recipe import Recipe
from polymodal.registry import build
from polymodal.tokens import Batch, InputBatch, Outputs, OutputShape, Tokens, View


class Tower(nn.Module):
    """One input on its way to the fusion: encode distinct items, project, normalise, give each row its tokens.

    Every input is normalised before fusion: without it most fusions stay on the answer prior (docs/design.md). A row
    that lacks the input gets the learned "missing" token at its first position, and `present` False.
    """

    def __init__(self, encoder: Encoder, width: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.project = nn.Identity() if encoder.width == width else nn.Linear(encoder.width, width)
        self.norm = nn.LayerNorm(width)
        self.missing = nn.Parameter(torch.randn(width) * 0.02)

    def forward(self, batch: InputBatch, hidden: Tensor | None = None) -> Tokens:
        """Tokens of each row, `[batch, length, width]`; rows where `hidden [batch]` is True count as missing."""
        present = batch.present if hidden is None else batch.present & ~hidden
        rows = len(present)
        if next(iter(batch.data.values())).shape[0] == 0:  # no row of this batch has the input
            features = self.missing.expand(rows, 1, -1)
            return Tokens(features, torch.ones(rows, 1, dtype=torch.bool, device=features.device), present)
        features, mask = self.encoder(batch.data)
        times = self.encoder.times(batch.data, features.shape[1])
        features = self.norm(self.project(features))
        if len(features) != rows or not torch.equal(batch.index, torch.arange(rows, device=batch.index.device)):
            features, mask = features.index_select(0, batch.index), mask.index_select(0, batch.index)
            times = None if times is None else times.index_select(0, batch.index)
        if not bool(present.all()):
            first = torch.zeros_like(mask)
            first[:, 0] = True
            absent = ~present
            mask = torch.where(absent.unsqueeze(1), first, mask)
            place = (first & absent.unsqueeze(1)).unsqueeze(-1)
            features = torch.where(place, self.missing.to(features.dtype), features)
        return Tokens(features, mask, present, times)


class Network(nn.Module):
    """encoders -> fusion -> decoders.

    shapes: what each input's modality says about its prepared tensors (`Modality.shape()`), by input name
    outputs: what each output's task asks of its decoder
    """

    def __init__(self, recipe: Recipe, *, shapes: dict[str, dict[str, Any]], outputs: dict[str, OutputShape]) -> None:
        super().__init__()
        width = recipe.width
        self.inputs, self.outputs = list(recipe.inputs), list(recipe.outputs)
        self.spaces = {name: shape.space for name, shape in outputs.items()}
        self.towers = nn.ModuleList(
            Tower(build("encoder", spec.encoder, f"inputs.{name}.encoder", shape=shapes[name], width=width), width)
            for name, spec in recipe.inputs.items()
        )
        self.fusion: Fusion = build("fusion", recipe.fusion, "fusion", inputs=self.inputs, width=width)
        self.fusion.prepare_outputs({name: shape.values for name, shape in outputs.items()})
        self.decoders = nn.ModuleList(
            nn.ModuleList(
                build("decoder", spec.decoder, f"outputs.{name}.decoder", width=width, shape=outputs[name])
                for _ in self.fusion.view_names()
            )
            for name, spec in recipe.outputs.items()
        )
        for parameter in self.parameters():
            if parameter.dim() == 4:  # `Module.to` refuses convolutions over three dimensions
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)

    def forward(self, batch: Batch, hidden: dict[str, Tensor] | None = None) -> dict[str, Outputs]:
        """Decide every output of a batch; `hidden[input]` `[batch]` bool hides that input in those rows."""
        hidden = hidden or {}
        tokens = {
            name: tower(batch.inputs[name], hidden.get(name))
            for name, tower in zip(self.inputs, self.towers, strict=True)
        }
        views = [self._with_timeline(view, tokens) for view in self.fusion(tokens)]
        decided = {}
        for name, decoders in self._decoders():
            decoded = [decoder(view).float() for decoder, view in zip(decoders, views, strict=True)]
            decided[name] = self.fusion.combine(decoded, views, self.spaces[name], name)
        return decided

    def encoders(self) -> dict[str, Encoder]:
        """The encoder of each input."""
        return {name: cast(Tower, tower).encoder for name, tower in zip(self.inputs, self.towers, strict=True)}

    def parts(self) -> dict[str, nn.Module]:
        """The trainable parts by recipe path, as `training.parts` names them."""
        found: dict[str, nn.Module] = {}
        for name, tower in zip(self.inputs, self.towers, strict=True):
            found[f"inputs.{name}"] = tower
            found[f"inputs.{name}.encoder"] = cast(Tower, tower).encoder
        found["fusion"] = self.fusion
        return found | {f"outputs.{name}": decoders for name, decoders in self._decoders()}

    def _with_timeline(self, view: View, tokens: dict[str, Tokens]) -> View:
        """The view with the tokens that have times: its own input's, or those of all inputs for a joint view."""
        behind = [tokens[view.name]] if view.name in tokens else [tokens[name] for name in self.inputs]
        timed = tuple(one for one in behind if one.times is not None)
        return replace(view, timed=timed) if timed else view

    def _decoders(self) -> Iterator[tuple[str, nn.ModuleList]]:
        """Each output with its decoders, one per view."""
        for name, decoders in zip(self.outputs, self.decoders, strict=True):
            yield name, cast(nn.ModuleList, decoders)
