"""The network: towers (one per input) -> fusion -> decoders. It is independent of tables and training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from polymodal.core.errors import RecipeError
from polymodal.core.options import Options
from polymodal.core.registry import build
from polymodal.core.types import TOKEN_SPACES, Batch, FusionOutput, OutputShape, TaskOutput, Tokens
from polymodal.nn.decoders.base import Decoder
from polymodal.nn.decoders.state_mixtures import LinearMixture
from polymodal.nn.decoders.tabm import EnsembleDecoder
from polymodal.nn.decoders.text_decoder import DecodingState, TextDecoder
from polymodal.nn.encoders.base import Encoder
from polymodal.nn.encoders.windowed import build_encoder, whole_item_shape
from polymodal.nn.fusion.base import Fusion
from polymodal.nn.fusion.unconditional import UnconditionalInput
from polymodal.nn.layers.named_modules import NamedModules
from polymodal.nn.objectives.base import InputInfo, Objective, ObjectiveBatch, ObjectiveLoss
from polymodal.nn.towers import EncodedInputs, Tower
from polymodal.recipe.recipe import TASK_INPUT, Recipe

#: Number of values for a target of tokens in each branch: its negative log-likelihood and its number of tokens.
NLL_VALUES = 2


class Network(nn.Module):
    """Encoders -> fusion -> decoders, and the objectives of representation learning on the inputs.

    shapes: description of the prepared tensors of each input (`Modality.shape()`), by input name
    outputs: the output shape that each task requires of its decoder, by output name
    """

    def __init__(self, recipe: Recipe, *, shapes: dict[str, dict[str, Any]], outputs: dict[str, OutputShape]) -> None:
        super().__init__()
        width = recipe.hidden_size
        self.inputs, self.outputs = list(recipe.inputs), list(recipe.outputs)
        self.spaces = {name: shape.space for name, shape in outputs.items()}
        self.boxes = {name for name, shape in outputs.items() if shape.boxes is not None}
        self.towers = NamedModules(
            {
                name: Tower(
                    build_encoder(spec.encoder, f"inputs.{name}.encoder", shapes[name], width),
                    width,
                    recipe.training.grad_cache_chunk_size,
                )
                for name, spec in recipe.inputs.items()
            }
        )
        has_task_tokens = recipe.task_tokens and bool(self.outputs)
        if has_task_tokens and not self.inputs:
            raise RecipeError("task_tokens", "a model without inputs has no fusion; remove task_tokens")
        fused = [TASK_INPUT, *self.inputs] if has_task_tokens else self.inputs
        self.fusion: Fusion = (
            build("fusion", recipe.fusion, "fusion", inputs=fused, width=width)
            if self.inputs and recipe.uses_fusion
            else UnconditionalInput(width)
        )
        self.task_tokens = nn.Parameter(torch.randn(len(self.outputs), width)) if has_task_tokens else None
        self.fusion.prepare_outputs(
            {name: shape.values if shape.text is None else NLL_VALUES for name, shape in outputs.items()}
        )
        self.decoders = NamedModules(
            {
                name: NamedModules[Decoder](
                    {
                        branch: build(
                            "decoder", spec.decoder, f"outputs.{name}.decoder", width=width, shape=outputs[name]
                        )
                        for branch in self.fusion.branch_names()
                    }
                )
                for name, spec in recipe.outputs.items()
            }
        )
        input_infos = {
            name: InputInfo(spec.modality.name, whole_item_shape(shapes[name]), self.towers[name].encoder)
            for name, spec in recipe.inputs.items()
            if spec.modality is not None
        }
        self.objectives = NamedModules[Objective](
            {
                name: build("objective", options, f"objectives.{index}", inputs=input_infos, width=width)
                for index, (name, options) in enumerate(name_objectives(recipe.objectives).items())
            }
        )
        self._keeps_encoder_outputs = any(decoder.uses_encoder_outputs for decoder in self.all_decoders())
        for name, decoders in self.decoders.items():
            for decoder in decoders.values():
                try:
                    decoder.attach_encoders(self.encoders())
                except RecipeError as error:
                    raise error.with_prefix(f"outputs.{name}.decoder") from None
        for parameter in self.parameters():
            if parameter.dim() == 4:  # `Module.to(memory_format=...)` fails for 3-D convolutions
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)

    def forward(self, batch: Batch, hidden: dict[str, Tensor] | None = None) -> dict[str, TaskOutput]:
        """Predict every output of a batch; `hidden[input]` `[batch]` bool hides that input in those rows."""
        return self.decode(self.encode_and_fuse(batch, hidden), batch)

    def encode_and_fuse(self, batch: Batch, hidden: dict[str, Tensor] | None = None) -> list[FusionOutput]:
        """The fusion outputs of a batch, one per branch; `hidden` as in `forward`."""
        return self.fuse(self.encode(batch), batch.rows.shape[0], hidden)

    def encode(self, batch: Batch) -> EncodedInputs:
        """Encode each input of a batch."""
        tokens: dict[str, Tokens] = {}
        encoder_outputs: dict[str, Tokens] = {}
        for name, tower in self.towers.items():
            tokens[name], output = tower(batch.inputs[name], return_encoder_outputs=self._keeps_encoder_outputs)
            if output is not None:
                encoder_outputs[name] = output
        return EncodedInputs(tokens, encoder_outputs)

    def fuse(self, encoded: EncodedInputs, rows: int, hidden: Mapping[str, Tensor] | None = None) -> list[FusionOutput]:
        """The fusion outputs of `rows` encoded rows, one per branch; `hidden` as in `forward`."""
        if isinstance(self.fusion, UnconditionalInput):
            return [self.fusion.output(rows)]
        tokens = dict(encoded.tokens)
        for name, tower in self.towers.items():
            if hidden and name in hidden:
                tokens[name] = tower.with_missing(tokens[name], hidden[name])
        outputs = {
            name: replace(output, present=tokens[name].present) for name, output in encoded.encoder_outputs.items()
        }
        if self.task_tokens is not None:
            return [self._fuse_per_task(self.task_tokens, tokens, outputs)]
        return [self._with_inputs(fused, tokens, outputs) for fused in self.fusion(tokens)]

    def _fuse_per_task(
        self, task_tokens: Tensor, tokens: dict[str, Tokens], encoder_outputs: dict[str, Tokens]
    ) -> FusionOutput:
        """The mean of the fusion outputs of all tasks, which it contains in `per_task`.

        The fusion runs once for each output, with the task token of this output as an additional input that is always
        present.
        """
        present = torch.stack([inputs.present for inputs in tokens.values()])
        always = torch.ones_like(present[0])
        per_task: dict[str, FusionOutput] = {}
        for name, token in zip(self.outputs, task_tokens, strict=True):
            task = Tokens(token.expand(always.shape[0], 1, -1), always.unsqueeze(1), always)
            (fused,) = self.fusion({TASK_INPUT: task, **tokens})
            fused = replace(fused, weight=fused.weight * present.any(0), penalties=self.fusion.penalties())
            per_task[name] = self._with_inputs(fused, tokens, encoder_outputs)
        features = torch.stack([fused.tokens.features for fused in per_task.values()]).mean(0)
        pooled = torch.stack([fused.pooled for fused in per_task.values()]).mean(0)
        first = next(iter(per_task.values()))
        tokens_mean = first.tokens.with_features(features)
        return replace(first, tokens=tokens_mean, pooled=pooled, per_task=per_task, penalties={})

    def objective_losses(self, step: ObjectiveBatch) -> dict[str, list[ObjectiveLoss]]:
        """The losses of every objective on a batch, by the name of the objective."""
        return {name: objective(step) for name, objective in self.objectives.items()}

    def raw_inputs(self) -> set[str]:
        """Inputs that an objective needs in their prepared form, so that cached features cannot replace them."""
        return {name for objective in self.objectives.values() for name in objective.raw_inputs}

    def decode(self, branches: list[FusionOutput], batch: Batch) -> dict[str, TaskOutput]:
        """Predict every output from the fusion outputs of a batch.

        For a text or an image, the values are the likelihood of its target; `init_state` starts generation.
        """
        outputs = {}
        for name in self.decoders:
            fused = [branch.per_task.get(name, branch) for branch in branches]
            if self.spaces[name] in TOKEN_SPACES:
                output = self._target_nll(name, fused, batch)
            else:
                output = self._with_sizes(name, self._decode_values(name, fused), batch)
            if self.task_tokens is not None:
                output = replace(output, penalties=dict(fused[0].penalties))
            outputs[name] = output
        return outputs

    def _decode_values(self, name: str, branches: list[FusionOutput]) -> TaskOutput:
        """The combined prediction of the branches of output `name`. In training, its loss is that of each member of an
        ensemble decoder."""
        decoded: list[Tensor] = []
        members: dict[str, Tensor] = {}
        for branch in branches:
            decoder = self.decoders[name][branch.name]
            if isinstance(decoder, EnsembleDecoder):
                members[branch.name] = decoder.members(branch).float()
                decoded.append(decoder.combine(members[branch.name]))
            else:
                decoded.append(decoder(branch).float())
        output = self.fusion.combine(decoded, branches, self.spaces[name], name)
        if not (members and self.training):
            return output
        terms = [replace(term, members=members.get(term.name)) for term in output.terms]
        return replace(output, terms=terms)

    def _with_sizes(self, name: str, output: TaskOutput, batch: Batch) -> TaskOutput:
        """The prediction of boxes, followed by the width and height of the picture of each row, `[batch, k + 2]`."""
        sizes = batch.prompts.get(name)
        if name not in self.boxes or sizes is None:
            return output
        return replace(output, values=torch.cat([output.values, sizes.to(output.values.dtype)], dim=1))

    def _target_nll(self, name: str, branches: list[FusionOutput], batch: Batch) -> TaskOutput:
        target = batch.targets.get(name)
        if target is None:
            return TaskOutput(batch.rows.new_zeros(len(batch), NLL_VALUES, dtype=torch.float32), [])
        prompt = self._prompt(name, batch)
        nll = [self._text_decoder(name, fused).target_nll(fused, prompt, target.value).float() for fused in branches]
        return self.fusion.combine(nll, branches, "real", name)

    def init_state(self, name: str, branches: list[FusionOutput], batch: Batch, steps: int) -> DecodingState:
        """The decoding state of output `name` for every row of a batch, with capacity for `steps` generated tokens."""
        branches = [branch.per_task.get(name, branch) for branch in branches]
        prompt = self._prompt(name, batch)
        states = [self._text_decoder(name, fused).init_state(fused, prompt, steps) for fused in branches]
        return states[0] if len(states) == 1 else LinearMixture(states, [fused.weight for fused in branches])

    def _text_decoder(self, name: str, fused: FusionOutput) -> TextDecoder:
        """The text decoder of output `name` for this branch."""
        return cast(TextDecoder, self.decoders[name][fused.name])  # the recipe ensures the type

    def _prompt(self, name: str, batch: Batch) -> Tensor:
        prompt = batch.prompts.get(name)
        return batch.rows.new_zeros(len(batch), 0) if prompt is None else prompt

    @property
    def compares_rows(self) -> bool:
        """Whether an objective compares the rows of a batch with each other."""
        return any(objective.compares_rows for objective in self.objectives.values())

    def encoders(self) -> dict[str, Encoder]:
        """The encoder of each input."""
        return {name: tower.encoder for name, tower in self.towers.items()}

    def all_decoders(self) -> list[Decoder]:
        """The decoders of every output, one for each branch."""
        return [decoder for decoders in self.decoders.values() for decoder in decoders.values()]

    def modules_by_path(self) -> dict[str, nn.Module]:
        """The modules by recipe path, as in `training.param_groups`."""
        modules: dict[str, nn.Module] = {}
        for name, tower in self.towers.items():
            modules[f"inputs.{name}"] = tower
            modules[f"inputs.{name}.encoder"] = tower.encoder
        modules["fusion"] = self.fusion
        modules |= {f"outputs.{name}": decoders for name, decoders in self.decoders.items()}
        return modules | {f"objectives.{n}": module for n, module in enumerate(self.objectives.values())}

    def _with_inputs(
        self, fused: FusionOutput, tokens: dict[str, Tokens], encoder_outputs: dict[str, Tokens]
    ) -> FusionOutput:
        """The fusion output with the tokens of its inputs: of its own input, or of all inputs for a joint branch."""
        names = [fused.name] if fused.name in tokens else self.inputs
        return replace(
            fused,
            input_tokens={name: tokens[name] for name in names},
            encoder_outputs={name: encoder_outputs[name] for name in names if name in encoder_outputs},
        )


def name_objectives(objectives: Sequence[Options]) -> dict[str, Options]:
    """The options of objectives by name; repeated objectives are numbered (`contrastive.2`)."""
    named: dict[str, Options] = {}
    kinds = [options.name for options in objectives]
    for index, options in enumerate(objectives):
        count = kinds[: index + 1].count(options.name)
        named[options.name if count == 1 else f"{options.name}.{count}"] = options
    return named
