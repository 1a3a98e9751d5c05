"""The network: towers (one per input) -> fusion -> decoders. It knows nothing about tables or training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from polymodal.core.errors import RecipeError
from polymodal.core.options import Options
from polymodal.core.registry import build
from polymodal.core.types import Batch, Outputs, OutputShape, Tokens, FusionOutput
from polymodal.nn.decoders.base import Decoder
from polymodal.nn.decoders.state_mixtures import LinearMixture
from polymodal.nn.decoders.text_decoder import DecodingState, TextDecoder
from polymodal.nn.encoders.base import Encoder
from polymodal.nn.fusion.base import Fusion
from polymodal.nn.fusion.unconditional import UnconditionalInput
from polymodal.nn.layers.named_modules import NamedModules
from polymodal.nn.objectives.base import Objective, Reads, Step, Term
from polymodal.nn.towers import EncodedInputs, Tower
from polymodal.recipe.recipe import TASK, Recipe

#: Numbers that a text comes to in each view: its negative log-likelihood, and of how many tokens that is.
LIKELIHOOD = 2


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
        self.towers = NamedModules(
            {
                name: Tower(
                    build("encoder", spec.encoder, f"inputs.{name}.encoder", shape=shapes[name], width=width),
                    width,
                    recipe.training.grad_cache_chunk_size,
                )
                for name, spec in recipe.inputs.items()
            }
        )
        has_task_tokens = recipe.task_tokens and bool(self.outputs)
        if has_task_tokens and not self.inputs:
            raise RecipeError("task_tokens", "a model without inputs has nothing to fuse; leave it out")
        fused = [TASK, *self.inputs] if has_task_tokens else self.inputs
        self.fusion: Fusion = (
            build("fusion", recipe.fusion, "fusion", inputs=fused, width=width)
            if self.inputs and recipe.fuses
            else UnconditionalInput(width)
        )
        self.task_tokens = nn.Parameter(torch.randn(len(self.outputs), width)) if has_task_tokens else None
        self.fusion.prepare_outputs(
            {name: shape.values if shape.text is None else LIKELIHOOD for name, shape in outputs.items()}
        )
        self.decoders = NamedModules(
            {
                name: NamedModules[Decoder](
                    {
                        view: build(
                            "decoder", spec.decoder, f"outputs.{name}.decoder", width=width, shape=outputs[name]
                        )
                        for view in self.fusion.branch_names()
                    }
                )
                for name, spec in recipe.outputs.items()
            }
        )
        learned_from = {
            name: Reads(spec.modality.name, shapes[name], self.towers[name].encoder)
            for name, spec in recipe.inputs.items()
            if spec.modality is not None
        }
        self.objectives = NamedModules[Objective](
            {
                name: build("objective", options, f"objectives.{place}", inputs=learned_from, width=width)
                for place, (name, options) in enumerate(numbered(recipe.objectives).items())
            }
        )
        self._keeps_encoded = any(decoder.uses_encoder_outputs for decoder in self.all_decoders())
        for name, decoders in self.decoders.items():
            for decoder in decoders.values():
                try:
                    decoder.attach(self.encoders())
                except RecipeError as error:
                    raise error.with_prefix(f"outputs.{name}.decoder") from None
        for parameter in self.parameters():
            if parameter.dim() == 4:  # `Module.to` refuses convolutions over three dimensions
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)

    def forward(self, batch: Batch, hidden: dict[str, Tensor] | None = None) -> dict[str, Outputs]:
        """Decide every output of a batch; `hidden[input]` `[batch]` bool hides that input in those rows."""
        return self.decide(self.views(batch, hidden), batch)

    def views(self, batch: Batch, hidden: dict[str, Tensor] | None = None) -> list[FusionOutput]:
        """What the fusion hands to the decoders; `hidden` as in `forward`."""
        return self.fuse(self.encode(batch), len(batch), hidden)

    def encode(self, batch: Batch) -> EncodedInputs:
        """The inputs of a batch, each by itself."""
        tokens: dict[str, Tokens] = {}
        found: dict[str, Tokens] = {}
        for name, tower in self.towers.items():
            tokens[name], given = tower(batch.inputs[name], encoded=self._keeps_encoded)
            if given is not None:
                found[name] = given
        return EncodedInputs(tokens, found)

    def fuse(self, encoded: EncodedInputs, rows: int, hidden: Mapping[str, Tensor] | None = None) -> list[FusionOutput]:
        """What the fusion hands to the decoders of so many encoded rows; `hidden` as in `forward`."""
        if isinstance(self.fusion, UnconditionalInput):
            return [self.fusion.output(rows)]
        tokens = dict(encoded.tokens)
        for name, tower in self.towers.items():
            if hidden and name in hidden:
                tokens[name] = tower.without(tokens[name], hidden[name])
        given = {name: replace(one, present=tokens[name].present) for name, one in encoded.given.items()}
        if self.task_tokens is not None:
            return [self._view_by_output(self.task_tokens, tokens, given)]
        return [self._with_sources(view, tokens, given) for view in self.fusion(tokens)]

    def _view_by_output(self, task_tokens: Tensor, tokens: dict[str, Tokens], given: dict[str, Tokens]) -> FusionOutput:
        """The joint view as each output asks for it, and their mean: the fusion runs once for each output, and reads
        its token as one more input that is always there."""
        present = torch.stack([one.present for one in tokens.values()])
        always = torch.ones_like(present[0])
        found: dict[str, FusionOutput] = {}
        for name, token in zip(self.outputs, task_tokens, strict=True):
            task = Tokens(token.expand(len(always), 1, -1), always.unsqueeze(1), always)
            (view,) = self.fusion({TASK: task, **tokens})
            view = replace(view, weight=view.weight * present.any(0), penalties=self.fusion.penalties())
            found[name] = self._with_sources(view, tokens, given)
        features = torch.stack([view.tokens.features for view in found.values()]).mean(0)
        pooled = torch.stack([view.pooled for view in found.values()]).mean(0)
        first = next(iter(found.values()))
        return replace(first, tokens=first.tokens.with_features(features), pooled=pooled, asked=found, penalties={})

    def terms(self, step: Step) -> dict[str, list[Term]]:
        """The losses of every objective on a batch, by its name."""
        return {name: objective(step) for name, objective in self.objectives.items()}

    def raw_inputs(self) -> set[str]:
        """The inputs that an objective must see as they were prepared, so that no features may stand in for them."""
        return {name for objective in self.objectives.values() for name in objective.reads_raw}

    def decide(self, views: list[FusionOutput], batch: Batch) -> dict[str, Outputs]:
        """Decide every output from the views of a batch. Of a text, how likely its target is; `draft` writes one."""
        decided = {}
        for name, decoders in self.decoders.items():
            own = [view.per_task.get(name, view) for view in views]
            if self.spaces[name] == "text":
                outputs = self._likelihood(name, own, batch)
            else:
                decoded = [decoders[view.name](view).float() for view in own]
                outputs = self.fusion.combine(decoded, own, self.spaces[name], name)
            if self.task_tokens is not None:
                outputs = replace(outputs, penalties=dict(own[0].penalties))
            decided[name] = outputs
        return decided

    def _likelihood(self, name: str, views: list[FusionOutput], batch: Batch) -> Outputs:
        target = batch.targets.get(name)
        if target is None:
            return Outputs(batch.rows.new_zeros(len(batch), LIKELIHOOD, dtype=torch.float32), [])
        prompt = self._prompt(name, batch)
        found = [self._writer(name, view).losses(view, prompt, target.value).float() for view in views]
        return self.fusion.combine(found, views, "real", name)

    def draft(self, name: str, views: list[FusionOutput], batch: Batch, steps: int) -> DecodingState:
        """Begin to write output `name` in every row of a batch, at most `steps` tokens in each."""
        views = [view.per_task.get(name, view) for view in views]
        prompt = self._prompt(name, batch)
        drafts = [self._writer(name, view).begin(view, prompt, steps) for view in views]
        return drafts[0] if len(drafts) == 1 else LinearMixture(drafts, [view.weight for view in views])

    def _writer(self, name: str, view: FusionOutput) -> TextDecoder:
        """The decoder that writes output `name` from this view."""
        return cast(TextDecoder, self.decoders[name][view.name])  # the task "text" takes no other, which the recipe checks

    def _prompt(self, name: str, batch: Batch) -> Tensor:
        found = batch.prompts.get(name)
        return batch.rows.new_zeros(len(batch), 0) if found is None else found

    @property
    def contrasts(self) -> bool:
        """Whether an objective compares the rows of a batch with each other."""
        return any(objective.contrasts for objective in self.objectives.values())

    def encoders(self) -> dict[str, Encoder]:
        """The encoder of each input."""
        return {name: tower.encoder for name, tower in self.towers.items()}

    def all_decoders(self) -> list[Decoder]:
        """The decoders of every output, one for each view."""
        return [decoder for decoders in self.decoders.values() for decoder in decoders.values()]

    def parts(self) -> dict[str, nn.Module]:
        """The trainable parts by recipe path, as `training.parts` names them."""
        found: dict[str, nn.Module] = {}
        for name, tower in self.towers.items():
            found[f"inputs.{name}"] = tower
            found[f"inputs.{name}.encoder"] = tower.encoder
        found["fusion"] = self.fusion
        found |= {f"outputs.{name}": decoders for name, decoders in self.decoders.items()}
        return found | {f"objectives.{place}": one for place, one in enumerate(self.objectives.values())}

    def _with_sources(self, view: FusionOutput, tokens: dict[str, Tokens], encoded: dict[str, Tokens]) -> FusionOutput:
        """The view with the tokens behind it: its own input's, or those of all inputs for a joint view."""
        behind = [view.name] if view.name in tokens else self.inputs
        return replace(
            view,
            sources={name: tokens[name] for name in behind},
            encoded={name: encoded[name] for name in behind if name in encoded},
        )


def numbered(objectives: Sequence[Options]) -> dict[str, Options]:
    """The options of objectives by name; the later ones of one kind are numbered (`contrastive.2`)."""
    found: dict[str, Options] = {}
    kinds = [options.name for options in objectives]
    for place, options in enumerate(objectives):
        count = kinds[: place + 1].count(options.name)
        found[options.name if count == 1 else f"{options.name}.{count}"] = options
    return found
