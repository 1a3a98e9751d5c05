"""The network: towers (one per input) -> fusion -> decoders. It knows nothing about tables or training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from polymodal.core.errors import RecipeError
from polymodal.core.registry import build
from polymodal.core.types import Batch, InputBatch, Outputs, OutputShape, Tokens, View
from polymodal.nn.decoders.base import Decoder
from polymodal.nn.decoders.mixture import Mixture
from polymodal.nn.decoders.writer import Draft, Writer
from polymodal.nn.encoders.base import Encoder
from polymodal.nn.fusion.base import Fusion
from polymodal.nn.fusion.nothing import Nothing
from polymodal.nn.objectives.base import Objective, Reads, Step, Term
from polymodal.recipe.recipe import TASK, Recipe


class Tower(nn.Module):
    """One input on its way to the fusion: encode distinct items, project, normalise, give each row its tokens.

    Every input is normalised before fusion: without it most fusions stay on the answer prior (docs/design.md). A row
    that lacks the input gets the learned "missing" token at its first position, and `present` False.
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
        features, mask = self._encode(batch.data)
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

    def _encode(self, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """What the encoder makes of the distinct items; in training `chunk` of them at once, forgotten and computed
        again on the way back."""
        items = next(iter(data.values())).shape[0]
        if self.chunk is None or items <= self.chunk or not (self.training and torch.is_grad_enabled()):
            return self.encoder.encode(data)
        parts = [
            {key: value[place : place + self.chunk] for key, value in data.items()}
            for place in range(0, items, self.chunk)
        ]
        found = [checkpoint(self.encoder.encode, part, use_reentrant=False) for part in parts]
        return torch.cat([features for features, _ in found]), torch.cat([mask for _, mask in found])


class Encoded(NamedTuple):
    """The inputs of a batch before fusion, by name: their `tokens`, and, where a decoder asks for it, what the encoders
    gave (`given`)."""

    tokens: Mapping[str, Tokens]
    given: dict[str, Tokens]


class InputTokens(Mapping[str, Tokens]):
    """The tokens of every input of a batch by name, each encoded when it is first asked for."""

    def __init__(self, network: Network, batch: Batch) -> None:
        self._network, self._batch, self._found = network, batch, {}  # type: ignore[var-annotated]

    def __getitem__(self, name: str) -> Tokens:
        if name not in self._found:
            self._found[name], _ = self._network.tower(name)(self._batch.inputs[name])
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._network.inputs)

    def __len__(self) -> int:
        return len(self._network.inputs)


class Network(nn.Module):
    """encoders -> fusion -> decoders, and beside them the objectives that learn from the inputs themselves.

    shapes: what each input's modality says about its prepared tensors (`Modality.shape()`), by input name
    outputs: what each output's task asks of its decoder
    """

    def __init__(self, recipe: Recipe, *, shapes: dict[str, dict[str, Any]], outputs: dict[str, OutputShape]) -> None:
        super().__init__()
        width = recipe.width
        self.inputs, self.outputs = list(recipe.inputs), list(recipe.outputs)
        self.spaces = {name: shape.space for name, shape in outputs.items()}
        self.towers = nn.ModuleList(
            Tower(
                build("encoder", spec.encoder, f"inputs.{name}.encoder", shape=shapes[name], width=width),
                width,
                recipe.training.chunk,
            )
            for name, spec in recipe.inputs.items()
        )
        asked = recipe.task_tokens and bool(self.outputs)
        if asked and not self.inputs:
            raise RecipeError("task_tokens", "a model without inputs has nothing to fuse; leave it out")
        read = [TASK, *self.inputs] if asked else self.inputs
        self.fusion: Fusion = (
            build("fusion", recipe.fusion, "fusion", inputs=read, width=width)
            if self.inputs and recipe.fuses
            else Nothing(width)
        )
        self.task_tokens = nn.Parameter(torch.randn(len(self.outputs), width)) if asked else None
        losses = {name: 2 for name, shape in outputs.items() if shape.text is not None}
        self.fusion.prepare_outputs({name: shape.values for name, shape in outputs.items()} | losses)
        self.decoders = nn.ModuleList(
            nn.ModuleList(
                build("decoder", spec.decoder, f"outputs.{name}.decoder", width=width, shape=outputs[name])
                for _ in self.fusion.view_names()
            )
            for name, spec in recipe.outputs.items()
        )
        reads = {
            name: Reads(spec.modality.name, shapes[name], encoder)
            for (name, spec), encoder in zip(recipe.inputs.items(), self.encoders().values(), strict=True)
            if spec.modality is not None
        }
        self.objective_names = _numbered([options.name for options in recipe.objectives])
        self.objectives = nn.ModuleList(
            build("objective", options, f"objectives.{place}", inputs=reads, width=width)
            for place, options in enumerate(recipe.objectives)
        )
        self._keeps_encoded = any(decoder.reads_encoded for decoder in self.all_decoders())
        for name, decoders in self._decoders():
            for decoder in decoders:
                try:
                    cast(Decoder, decoder).attach(self.encoders())
                except RecipeError as error:
                    raise error.under(f"outputs.{name}.decoder") from None
        for parameter in self.parameters():
            if parameter.dim() == 4:  # `Module.to` refuses convolutions over three dimensions
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)

    def forward(self, batch: Batch, hidden: dict[str, Tensor] | None = None) -> dict[str, Outputs]:
        """Decide every output of a batch; `hidden[input]` `[batch]` bool hides that input in those rows."""
        return self.decide(self.views(batch, hidden), batch)

    def views(self, batch: Batch, hidden: dict[str, Tensor] | None = None) -> list[View]:
        """What the fusion hands to the decoders; `hidden` as in `forward`."""
        return self.fuse(self.encode(batch), len(batch), hidden)

    def encode(self, batch: Batch) -> Encoded:
        """The inputs of a batch, each by itself."""
        tokens: dict[str, Tokens] = {}
        found: dict[str, Tokens] = {}
        for name, tower in zip(self.inputs, self.towers, strict=True):
            tokens[name], given = tower(batch.inputs[name], encoded=self._keeps_encoded)
            if given is not None:
                found[name] = given
        return Encoded(tokens, found)

    def fuse(self, encoded: Encoded, rows: int, hidden: Mapping[str, Tensor] | None = None) -> list[View]:
        """What the fusion hands to the decoders of so many encoded rows; `hidden` as in `forward`."""
        if isinstance(self.fusion, Nothing):
            return [self.fusion.view(rows)]
        tokens = dict(encoded.tokens)
        for name, tower in zip(self.inputs, self.towers, strict=True):
            if hidden and name in hidden:
                tokens[name] = cast(Tower, tower).without(tokens[name], hidden[name])
        given = {name: replace(one, present=tokens[name].present) for name, one in encoded.given.items()}
        if self.task_tokens is not None:
            return [self._asked(self.task_tokens, tokens, given)]
        return [self._with_sources(view, tokens, given) for view in self.fusion(tokens)]

    def _asked(self, task_tokens: Tensor, tokens: dict[str, Tokens], given: dict[str, Tokens]) -> View:
        """The joint view as each output asks for it, and their mean: the fusion runs once for each output, and reads
        its token as one more input that is always there."""
        present = torch.stack([one.present for one in tokens.values()])
        always = torch.ones_like(present[0])
        asked: dict[str, View] = {}
        for name, token in zip(self.outputs, task_tokens, strict=True):
            task = Tokens(token.expand(len(always), 1, -1), always.unsqueeze(1), always)
            (view,) = self.fusion({TASK: task, **tokens})
            view = replace(view, weight=view.weight * present.any(0), penalties=self.fusion.penalties())
            asked[name] = self._with_sources(view, tokens, given)
        features = torch.stack([view.tokens.features for view in asked.values()]).mean(0)
        pooled = torch.stack([view.pooled for view in asked.values()]).mean(0)
        first = next(iter(asked.values()))
        return replace(first, tokens=first.tokens.with_features(features), pooled=pooled, asked=asked, penalties={})

    def terms(self, step: Step) -> dict[str, list[Term]]:
        """The losses of every objective on a batch, by its name."""
        return {name: objective(step) for name, objective in self.named_objectives().items()}

    def named_objectives(self) -> dict[str, Objective]:
        """The objectives by name; the later ones of one kind are numbered (`contrastive.2`)."""
        return dict(zip(self.objective_names, cast("Iterator[Objective]", self.objectives), strict=True))

    def raw_inputs(self) -> set[str]:
        """The inputs that an objective must see as they were prepared, so that no features may stand in for them."""
        return {name for objective in self.named_objectives().values() for name in objective.reads_raw}

    def decide(self, views: list[View], batch: Batch) -> dict[str, Outputs]:
        """Decide every output from the views of a batch. Of a text, how likely its target is; `draft` writes one."""
        decided = {}
        for name, decoders in self._decoders():
            own = [view.asked.get(name, view) for view in views]
            if self.spaces[name] == "text":
                outputs = self._likelihood(name, decoders, own, batch)
            else:
                decoded = [decoder(view).float() for decoder, view in zip(decoders, own, strict=True)]
                outputs = self.fusion.combine(decoded, own, self.spaces[name], name)
            if self.task_tokens is not None:
                outputs = replace(outputs, penalties=dict(own[0].penalties))
            decided[name] = outputs
        return decided

    def _likelihood(self, name: str, decoders: nn.ModuleList, views: list[View], batch: Batch) -> Outputs:
        target = batch.targets.get(name)
        if target is None:
            return Outputs(batch.rows.new_zeros(len(batch), 2, dtype=torch.float32), [])
        prompt = self._prompt(name, batch)
        found = [
            cast(Writer, decoder).losses(view, prompt, target.value).float()
            for decoder, view in zip(decoders, views, strict=True)
        ]
        return self.fusion.combine(found, views, "real", name)

    def draft(self, name: str, views: list[View], batch: Batch, steps: int) -> Draft:
        """Begin to write output `name` in every row of a batch, at most `steps` tokens in each."""
        (decoders,) = (each for output, each in self._decoders() if output == name)
        views = [view.asked.get(name, view) for view in views]
        prompt = self._prompt(name, batch)
        drafts = [
            cast(Writer, decoder).begin(view, prompt, steps) for decoder, view in zip(decoders, views, strict=True)
        ]
        return drafts[0] if len(drafts) == 1 else Mixture(drafts, [view.weight for view in views])

    def _prompt(self, name: str, batch: Batch) -> Tensor:
        found = batch.prompts.get(name)
        return batch.rows.new_zeros(len(batch), 0) if found is None else found

    @property
    def contrasts(self) -> bool:
        """Whether an objective compares the rows of a batch with each other."""
        return any(objective.contrasts for objective in self.named_objectives().values())

    def tower(self, name: str) -> Tower:
        """The tower of input `name`."""
        return cast(Tower, self.towers[self.inputs.index(name)])

    def encoders(self) -> dict[str, Encoder]:
        """The encoder of each input."""
        return {name: cast(Tower, tower).encoder for name, tower in zip(self.inputs, self.towers, strict=True)}

    def decoders_by_output(self) -> dict[str, list[Decoder]]:
        """The decoders of each output, one for each view."""
        return {name: [cast(Decoder, decoder) for decoder in decoders] for name, decoders in self._decoders()}

    def all_decoders(self) -> list[Decoder]:
        """The decoders of every output, one for each view."""
        return [decoder for decoders in self.decoders_by_output().values() for decoder in decoders]

    def parts(self) -> dict[str, nn.Module]:
        """The trainable parts by recipe path, as `training.parts` names them."""
        found: dict[str, nn.Module] = {}
        for name, tower in zip(self.inputs, self.towers, strict=True):
            found[f"inputs.{name}"] = tower
            found[f"inputs.{name}.encoder"] = cast(Tower, tower).encoder
        found["fusion"] = self.fusion
        found |= {f"outputs.{name}": decoders for name, decoders in self._decoders()}
        return found | {f"objectives.{place}": objective for place, objective in enumerate(self.objectives)}

    def _with_sources(self, view: View, tokens: dict[str, Tokens], encoded: dict[str, Tokens]) -> View:
        """The view with the tokens behind it: its own input's, or those of all inputs for a joint view."""
        behind = [view.name] if view.name in tokens else self.inputs
        return replace(
            view,
            sources={name: tokens[name] for name in behind},
            encoded={name: encoded[name] for name in behind if name in encoded},
        )

    def _decoders(self) -> Iterator[tuple[str, nn.ModuleList]]:
        """Each output with its decoders, one per view."""
        for name, decoders in zip(self.outputs, self.decoders, strict=True):
            yield name, cast(nn.ModuleList, decoders)


def _numbered(names: list[str]) -> list[str]:
    """The names, those that were there before with a number behind."""
    return [name if (place := names[: i + 1].count(name)) == 1 else f"{name}.{place}" for i, name in enumerate(names)]
