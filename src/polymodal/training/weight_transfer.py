"""Transfer of weights from a saved model into a new network."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor, nn

from polymodal.checkpoint.shared_weights import tie_frozen
from polymodal.core.errors import RecipeError
from polymodal.nn.layers.named_modules import module_key
from polymodal.nn.network import Network, name_objectives
from polymodal.preparation.preparation import Preparation
from polymodal.recipe.recipe import Recipe
from polymodal.training.records import SourceModelRecord
from polymodal.training.source_model import SourceModel


class TransferReport(NamedTuple):
    """The parts of a network by recipe path: `loaded` from a saved model, or `new`."""

    source: SourceModel
    loaded: list[str]
    new: list[str]

    def record(self) -> SourceModelRecord:
        """The record for `run.json`."""
        return SourceModelRecord(
            str(self.source.folder), self.source.manifest_sha256, tuple(self.loaded), tuple(self.new)
        )


def matching_parts(source: SourceModel | None, preparation: Preparation) -> frozenset[str]:
    """The inputs and outputs, by recipe path, whose weights come from the source model.

    They need no pretrained weights from elsewhere.
    """
    if source is None:
        return frozenset()
    inputs = [f"inputs.{name}" for name in source.matching_inputs(preparation.recipe)]
    return frozenset([*inputs, *(f"outputs.{name}" for name in source.matching_outputs(preparation))])


def load_matching_weights(source: SourceModel, network: Network, preparation: Preparation) -> TransferReport:
    """Load all matching weights of a saved model into a new network, before any part is frozen.

    These parts are loaded: the towers of matching inputs; the fusion, if inputs and options are the same; the
    parameters of objectives with the same options (memory banks and running statistics start empty); and the decoders
    of outputs with the same task, decoder and classes over the same fusion.

    Raises:
        RecipeError: shapes or names of the weights differ, for example because the adapters differ.
    """
    recipe, theirs, weights = preparation.recipe, source.recipe, source.weights()
    known = matching_parts(source, preparation)
    parts: list[str] = []
    prefixes = tuple(map(_prefix, known))
    tie_frozen(network, {name: one for name, one in weights.items() if name.startswith(prefixes)})
    for path, module in network.modules_by_path().items():
        if path not in known:
            continue
        _load_weights(module, _with_prefix(weights, _prefix(path)), path, source)
        parts.append(path)
    if source.has_same_fusion(recipe) and _fits(network.fusion, _with_prefix(weights, "fusion.")):
        network.fusion.load_state_dict(_with_prefix(weights, "fusion."))
        parts.append("fusion")
        if network.task_tokens is not None and list(recipe.outputs) == list(theirs.outputs):
            network.task_tokens.data.copy_(weights["task_tokens"])
    parts += _load_objectives(source, network, recipe, weights)
    all_parts = [*(f"inputs.{name}" for name in recipe.inputs), *(["fusion"] if recipe.uses_fusion else [])]
    all_parts += [*(f"outputs.{name}" for name in recipe.outputs)]
    all_parts += [f"objectives.{index}" for index in range(len(recipe.objectives))]
    return TransferReport(
        source, [one for one in all_parts if one in parts], [one for one in all_parts if one not in parts]
    )


def _prefix(path: str) -> str:
    """The prefix of the weights of an input or output, given its recipe path."""
    kind, _, name = path.partition(".")
    return f"{'towers' if kind == 'inputs' else 'decoders'}.{module_key(name)}."


def _load_objectives(source: SourceModel, network: Network, recipe: Recipe, weights: dict[str, Tensor]) -> list[str]:
    """Load each objective from the first unused objective of the saved model with equal options."""
    free = name_objectives(source.recipe.objectives)
    found = []
    for index, (name, options) in enumerate(name_objectives(recipe.objectives).items()):
        objective = network.objectives[name]
        own = dict(objective.named_parameters())
        for other, theirs in free.items():
            under = _with_prefix(weights, f"objectives.{module_key(other)}.")
            held = {path: one for path, one in under.items() if path in own}
            alike = theirs == options and _objective_inputs(source.recipe, theirs) == _objective_inputs(recipe, options)
            if alike and own and own.keys() == held.keys() and _same_shapes(own, held):
                objective.load_state_dict(held, strict=False)
                found.append(f"objectives.{index}")
                del free[other]
                break
    return found


def _objective_inputs(recipe: Recipe, options: Any) -> list[str]:
    """The inputs of an objective."""
    modalities = {name: spec.modality.name for name, spec in recipe.inputs.items() if spec.modality is not None}
    found: list[str] = options.component.select_inputs(options.inputs, modalities)
    return found


def _load_weights(module: nn.Module, weights: dict[str, Tensor], path: str, source: SourceModel) -> None:
    if not _fits(module, weights):
        problem = (
            f"cannot load its weights from {source.folder}: names or shapes differ. Use the same adapters and input "
            "options as the saved model"
        )
        raise RecipeError(path, problem)
    module.load_state_dict(weights)


def _fits(module: nn.Module, weights: dict[str, Tensor]) -> bool:
    own = module.state_dict()
    return own.keys() == weights.keys() and _same_shapes(own, weights)


def _same_shapes(own: Any, weights: dict[str, Tensor]) -> bool:
    return all(own[name].shape == weights[name].shape for name in own)


def _with_prefix(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
