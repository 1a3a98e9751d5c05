"""The weights of a saved model in the network of another that goes on from it."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor, nn

from polymodal.core.errors import RecipeError
from polymodal.nn.layers.named_modules import key_of
from polymodal.nn.network import Network, numbered
from polymodal.preparation.preparation import Preparation
from polymodal.recipe.recipe import Recipe
from polymodal.training.records import SourceModelRecord
from polymodal.training.source_model import SourceModel


class TransferReport(NamedTuple):
    """The parts of a network by recipe path: those that go on from a saved model, and those that are new."""

    source: SourceModel
    loaded: list[str]
    new: list[str]

    def record(self) -> SourceModelRecord:
        """For the record of the run."""
        return SourceModelRecord(str(self.source.folder), self.source.manifest_sha256, tuple(self.loaded), tuple(self.new))


def matching_parts(start: SourceModel | None, preparation: Preparation) -> frozenset[str]:
    """The inputs and outputs, by recipe path, whose weights will be carried, so that nothing else need fill them."""
    if start is None:
        return frozenset()
    inputs = [f"inputs.{name}" for name in start.matching_inputs(preparation.recipe)]
    return frozenset([*inputs, *(f"outputs.{name}" for name in start.matching_outputs(preparation))])


def load_matching_weights(start: SourceModel, network: Network, preparation: Preparation) -> TransferReport:
    """Put the saved model's weights into a new network, before any of it is frozen.

    Carried are the towers of carried inputs; the fusion, where it is the same, of the same inputs and outputs; what
    objectives with the same options have learned (banks of earlier rows and running statistics begin anew); and the
    decoders of outputs with the same task, decoder and classes over the same fusion.

    Raises:
        RecipeError: weights do not fit, as those of a checkpoint with other adapters.
    """
    recipe, theirs, weights = preparation.recipe, start.recipe, start.weights()
    known = matching_parts(start, preparation)
    parts: list[str] = []
    for path, module in network.parts().items():
        kind, _, name = path.partition(".")
        if path not in known:
            continue
        group = "towers" if kind == "inputs" else "decoders"
        _fill(module, _under(weights, f"{group}.{key_of(name)}."), path, start)
        parts.append(path)
    if start.has_same_fusion(recipe) and _fits(network.fusion, _under(weights, "fusion.")):
        network.fusion.load_state_dict(_under(weights, "fusion."))
        parts.append("fusion")
        if network.task_tokens is not None and list(recipe.outputs) == list(theirs.outputs):
            network.task_tokens.data.copy_(weights["task_tokens"])
    parts += _carry_objectives(start, network, recipe, weights)
    all_parts = [*(f"inputs.{name}" for name in recipe.inputs), *(["fusion"] if recipe.fuses else [])]
    all_parts += [*(f"outputs.{name}" for name in recipe.outputs)]
    all_parts += [f"objectives.{place}" for place in range(len(recipe.objectives))]
    return TransferReport(start, [one for one in all_parts if one in parts], [one for one in all_parts if one not in parts])


def _carry_objectives(start: SourceModel, network: Network, recipe: Recipe, weights: dict[str, Tensor]) -> list[str]:
    """Fill each objective from the first of the saved model's with equal options that is not taken yet."""
    free = numbered(start.recipe.objectives)
    found = []
    for place, (name, options) in enumerate(numbered(recipe.objectives).items()):
        objective = network.objectives[name]
        own = dict(objective.named_parameters())
        for other, theirs in free.items():
            under = _under(weights, f"objectives.{key_of(other)}.")
            held = {path: one for path, one in under.items() if path in own}
            alike = theirs == options and _reads(start.recipe, theirs) == _reads(recipe, options)
            if alike and own and own.keys() == held.keys() and _same_shapes(own, held):
                objective.load_state_dict(held, strict=False)
                found.append(f"objectives.{place}")
                del free[other]
                break
    return found


def _reads(recipe: Recipe, options: Any) -> list[str]:
    """The inputs that an objective learns from."""
    modalities = {name: spec.modality.name for name, spec in recipe.inputs.items() if spec.modality is not None}
    found: list[str] = options.component.chosen(options.inputs, modalities)
    return found


def _fill(module: nn.Module, weights: dict[str, Tensor], path: str, start: SourceModel) -> None:
    if not _fits(module, weights):
        problem = (
            f"its weights in {start.folder} do not fit: it is tuned with other adapters there, or reads other items"
        )
        raise RecipeError(path, problem)
    module.load_state_dict(weights)


def _fits(module: nn.Module, weights: dict[str, Tensor]) -> bool:
    own = module.state_dict()
    return own.keys() == weights.keys() and _same_shapes(own, weights)


def _same_shapes(own: Any, weights: dict[str, Tensor]) -> bool:
    return all(own[name].shape == weights[name].shape for name in own)


def _under(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
