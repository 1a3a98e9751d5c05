"""The members of a model in its directory.

members.json           members, inputs, weights and temperatures
members.safetensors    arrays of features and estimators
members/<name>.txt     estimators in the text format of their library

All weights are in `model.safetensors`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from polymodal.checkpoint.model_directory import (
    MEMBER_ARRAYS,
    MEMBERS,
    read_json,
    write_json,
)
from polymodal.checkpoint.reading import read_tensors
from polymodal.checkpoint.tensor_files import write_tensors
from polymodal.core.options import StrictModel
from polymodal.core.record import read_record
from polymodal.core.registry import build
from polymodal.core.writing import write_text
from polymodal.estimators.base import Estimator, EstimatorState
from polymodal.features.feature_set import FeatureSet
from polymodal.inference.combination import Calibration, OutputCombination
from polymodal.inference.ensemble_predictor import EstimatorMember, FittedEnsemble, read_inputs
from polymodal.model.make_encoders import make_encoders, share_frozen_encoders
from polymodal.model.make_network import saved_network
from polymodal.nn.network import Network
from polymodal.preparation.preparation import Preparation
from polymodal.recipe.recipe import Recipe

TEXTS = "members"


class MemberFile(StrictModel):
    """A member without a network: the index of its options in `Recipe.members`, and the files of its texts by output
    and name."""

    name: str
    options: int
    inputs: list[str]
    texts: dict[str, dict[str, str]]


class CombinationFile(StrictModel):
    """The weights and calibrations of an output; see `OutputCombination` and `Calibration`."""

    weights: dict[str, float]
    scales: dict[str, float]
    scale: float
    powers: dict[str, float] = {}
    power: float = 0.0

    @classmethod
    def of(cls, combination: OutputCombination) -> CombinationFile:
        """The content for a combination."""
        members, whole = combination.calibrations, combination.calibration
        scales = {name: one.scale for name, one in members.items()}
        powers = {name: one.power for name, one in members.items()}
        return cls(weights=combination.weights, scales=scales, scale=whole.scale, powers=powers, power=whole.power)

    def combination(self) -> OutputCombination:
        """The combination."""
        members = {name: Calibration(scale, self.powers.get(name, 0.0)) for name, scale in self.scales.items()}
        return OutputCombination(self.weights, members, Calibration(self.scale, self.power))


class EnsembleFile(StrictModel):
    """The content of `members.json`."""

    networks: int
    members: list[MemberFile]
    combinations: dict[str, CombinationFile]


def write_ensemble(folder: Path, ensemble: FittedEnsemble) -> None:
    """Write the members and their combination."""
    arrays = {f"features/{name}": array for name, array in ensemble.features.state(ensemble.read_inputs()).items()}
    members = []
    for number, member in enumerate(ensemble.members):
        texts: dict[str, dict[str, str]] = {}
        for at, (output, estimator) in enumerate(member.estimators.items()):
            state = estimator.save()
            arrays |= {f"members/{number}/{at}/{name}": array for name, array in state.arrays.items()}
            for index, (name, text) in enumerate(state.texts.items()):
                file = f"{TEXTS}/{number}-{at}-{index}.txt"
                texts.setdefault(output, {})[name] = file
                write_text(folder / file, text)
        members.append(MemberFile(name=member.name, options=member.options, inputs=list(member.inputs), texts=texts))
    combinations = {output: CombinationFile.of(one) for output, one in ensemble.combinations.items()}
    write_tensors(
        folder / MEMBER_ARRAYS, {name: torch.from_numpy(np.asarray(one, order="C")) for name, one in arrays.items()}
    )
    content = EnsembleFile(networks=len(ensemble.networks), members=members, combinations=combinations)
    write_json(folder / MEMBERS, content.model_dump())


def read_ensemble(
    folder: Path, recipe: Recipe, preparation: Preparation, weights: dict[str, Tensor]
) -> tuple[list[Network], FittedEnsemble]:
    """The networks and the members of the model in a directory.

    Raises:
        ValueError, KeyError, RuntimeError: a file does not fit the recipe.
    """
    content = read_record(EnsembleFile, read_json(folder / MEMBERS), folder / MEMBERS)
    if content.networks == 1:
        networks = [saved_network(recipe, preparation, weights)]
    else:
        networks = [
            saved_network(recipe, preparation, _with_prefix(weights, f"{number}."))
            for number in range(content.networks)
        ]
    share_frozen_encoders(recipe, networks)
    arrays = {name: one.numpy() for name, one in read_tensors(folder / MEMBER_ARRAYS).items()}
    inputs = read_inputs([one.inputs for one in content.members], recipe.inputs)
    encoders = networks[0].encoders() if networks else make_encoders(recipe, preparation, inputs)
    if not networks:
        for name, encoder in encoders.items():
            encoder.load_state_dict(_with_prefix(weights, f"encoders.{name}."))
            encoder.eval()
    features = FeatureSet(recipe, preparation, encoders, None, inputs)
    features.load(_with_prefix(arrays, "features/"))
    members = tuple(
        _member(folder, recipe, preparation, one, _with_prefix(arrays, f"members/{number}/"))
        for number, one in enumerate(content.members)
    )
    combinations = {output: one.combination() for output, one in content.combinations.items()}
    if set(combinations) != set(preparation.tasks):
        raise ValueError(f"{MEMBERS} combines {sorted(combinations)}, and the outputs are {sorted(preparation.tasks)}")
    return networks, FittedEnsemble(features, encoders, members, tuple(networks), combinations)


def _member(
    folder: Path, recipe: Recipe, preparation: Preparation, content: MemberFile, arrays: dict[str, Any]
) -> EstimatorMember:
    options = (recipe.members or [])[content.options]
    estimators: dict[str, Estimator] = {}
    for at, output in enumerate(preparation.tasks):
        texts = {name: (folder / file).read_text("utf-8") for name, file in content.texts.get(output, {}).items()}
        estimator: Estimator = build("estimator", options, f"members.{content.options}", seed=recipe.seed)
        estimator.load(EstimatorState(_with_prefix(arrays, f"{at}/"), texts))
        estimators[output] = estimator
    return EstimatorMember(content.name, content.options, tuple(content.inputs), estimators)


def _with_prefix(values: dict[str, Any], prefix: str) -> dict[str, Any]:
    """The entries whose name begins with `prefix`, without it."""
    return {name.removeprefix(prefix): one for name, one in values.items() if name.startswith(prefix)}
