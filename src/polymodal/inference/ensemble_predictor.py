"""The predictor of a model with several members: networks and estimators that read the same prepared rows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from polymodal.data.partition import Split
from polymodal.data.store.items import PreparedInput
from polymodal.estimators.base import Estimator
from polymodal.features.feature_set import FeatureSet
from polymodal.features.feature_table import FeatureTable
from polymodal.inference.combination import OutputCombination, average, to_probabilities
from polymodal.inference.predictions import Predictions
from polymodal.inference.predictor import Predictor
from polymodal.nn.encoders.base import Encoder
from polymodal.nn.network import Network
from polymodal.preparation.feature_cache import FeatureItems, FeatureSettings, encode_frozen_input
from polymodal.preparation.preparation import ItemCorruption, Preparation, PreparedTable
from polymodal.runtime.compute import ComputeConfig

#: The name of the member that consists of networks.
NETWORK = "network"


class PredictsSplits(Protocol):
    """The interface of `Predictor` and `EnsemblePredictor`: the predictions of prepared rows."""

    @property
    def preparation(self) -> Preparation:
        """The preparation of the rows."""

    def predict(
        self,
        split: Split[PreparedTable],
        *,
        hidden_inputs: frozenset[str] = frozenset(),
        corruption: ItemCorruption | None = None,
        with_texts: bool = True,
        row_numbers: np.ndarray | None = None,
        advance: Callable[[int], None] | None = None,
    ) -> dict[str, Predictions]:
        """The predictions of every output by name; see `Predictor.predict`."""

    def predict_each(
        self,
        split: Split[PreparedTable],
        hidden_inputs: Sequence[frozenset[str]],
        *,
        corruption: ItemCorruption | None = None,
        with_texts: bool = True,
        row_numbers: np.ndarray | None = None,
        advance: Callable[[int], None] | None = None,
    ) -> list[dict[str, Predictions]]:
        """The predictions with each of several sets of inputs hidden; see `Predictor.predict_each`."""


@dataclass(frozen=True)
class EstimatorMember:
    """A member without a network.

    name: in the leaderboard
    options: the index of its options in `Recipe.members`
    inputs: the inputs that it reads; all if empty
    estimators: by output
    """

    name: str
    options: int
    inputs: tuple[str, ...]
    estimators: dict[str, Estimator]

    def predict(self, features: FeatureTable) -> dict[str, np.ndarray]:
        """The raw predictions `[rows, k]` of each output."""
        selected = features.select(self.inputs)
        return {output: estimator.predict(selected) for output, estimator in self.estimators.items()}


@dataclass(frozen=True)
class FittedEnsemble:
    """The members of a model and their combination.

    features: the features of the estimators
    encoders: the encoders of the inputs, those of the first network if there is one; without a network, only the
        frozen pretrained ones
    members: the members without a network
    networks: networks that are trained on different folds and averaged; empty without a network
    combinations: by output
    unimodal: by input, the best member that reads only this input; not saved
    held_out: by output, the raw predictions `[rows, k]` of the validation rows by members that were not fitted on them;
        not saved
    """

    features: FeatureSet
    encoders: dict[str, Encoder]
    members: tuple[EstimatorMember, ...]
    networks: tuple[Network, ...]
    combinations: dict[str, OutputCombination]
    unimodal: dict[str, EstimatorMember] = field(default_factory=dict)
    held_out: dict[str, np.ndarray] = field(default_factory=dict)

    def read_inputs(self) -> frozenset[str]:
        """The inputs whose features a member without a network reads. A saved model has no others."""
        return read_inputs([member.inputs for member in self.members], self.features.featurizers)


def read_inputs(members: Sequence[Sequence[str]], inputs: Collection[str]) -> frozenset[str]:
    """The inputs that members without a network read.

    members: the inputs of each; empty: all
    """
    return frozenset(inputs) if not all(members) else frozenset(name for one in members for name in one)


@dataclass(frozen=True)
class _Readable:
    """What the members read of some rows of a table.

    inputs, rows: of which inputs and rows of a table
    encoded: by input, frozen features that members share
    features: of the estimators; None without estimators
    """

    inputs: Mapping[str, PreparedInput]
    rows: np.ndarray
    encoded: dict[str, PreparedInput]
    features: FeatureTable | None

    def is_of(self, split: Split[PreparedTable]) -> bool:
        """Whether these are the rows of the split, of the same prepared inputs."""
        own, other = self.inputs, split.table.inputs
        same = own.keys() == other.keys() and all(one is other[name] for name, one in own.items())
        return same and np.array_equal(self.rows, split.rows)


class EnsemblePredictor:
    """Runs the members of a model over prepared rows and combines their predictions.

    Features and frozen encoders run once for each item of a table, also if `predict` hides inputs in several calls, and
    once more for each corruption of their input.

    cache: folder of the feature cache; None keeps features in memory
    """

    def __init__(
        self, ensemble: FittedEnsemble, preparation: Preparation, compute: ComputeConfig, cache: Path | None = None
    ) -> None:
        self.ensemble, self._preparation, self.cache = ensemble, preparation, cache
        self.predictors = [Predictor(network, preparation, compute) for network in ensemble.networks]
        self._last: _Readable | None = None

    @property
    def preparation(self) -> Preparation:
        """The preparation of the rows."""
        return self._preparation

    def predict(
        self,
        split: Split[PreparedTable],
        *,
        hidden_inputs: frozenset[str] = frozenset(),
        corruption: ItemCorruption | None = None,
        with_texts: bool = True,
        row_numbers: np.ndarray | None = None,
        advance: Callable[[int], None] | None = None,
    ) -> dict[str, Predictions]:
        """The predictions of every output by name; see `Predictor.predict`."""
        (found,) = self.predict_each(split, [hidden_inputs], corruption=corruption, advance=advance)
        return found

    def predict_each(
        self,
        split: Split[PreparedTable],
        hidden_inputs: Sequence[frozenset[str]],
        *,
        corruption: ItemCorruption | None = None,
        with_texts: bool = True,
        row_numbers: np.ndarray | None = None,
        advance: Callable[[int], None] | None = None,
    ) -> list[dict[str, Predictions]]:
        """The predictions with each of several sets of inputs hidden; see `Predictor.predict_each`."""
        tasks = self.preparation.tasks
        predictions = []
        for found in self._values_each(split, hidden_inputs, corruption):
            combined = {
                output: one.combine({name: found[name][output] for name in one.weights}, tasks[output].space)
                for output, one in self.ensemble.combinations.items()
            }
            predictions.append(
                {output: Predictions(torch.from_numpy(values), {}, {}) for output, values in combined.items()}
            )
        if advance:
            advance(len(split))
        return predictions

    def member_values(
        self,
        split: Split[PreparedTable],
        *,
        hidden_inputs: frozenset[str] = frozenset(),
        corruption: ItemCorruption | None = None,
    ) -> dict[str, dict[str, np.ndarray]]:
        """By member, the raw predictions `[rows, k]` of each output."""
        (found,) = self._values_each(split, [hidden_inputs], corruption)
        return found

    def _values_each(
        self, split: Split[PreparedTable], hidden_inputs: Sequence[frozenset[str]], corruption: ItemCorruption | None
    ) -> list[dict[str, dict[str, np.ndarray]]]:
        """The values of `member_values` with each of several sets of inputs hidden. Each network encodes the rows once,
        and a member predicts once for all sets that hide the same of its inputs."""
        table, features = self._readable(split, corruption)
        found: list[dict[str, dict[str, np.ndarray]]] = [{} for _ in hidden_inputs]
        for member in self.ensemble.members if features is not None else ():
            assert features is not None
            known: dict[frozenset[str], dict[str, np.ndarray]] = {}
            for values, hidden in zip(found, hidden_inputs, strict=True):
                own = hidden.intersection(member.inputs or hidden)
                if own not in known:
                    known[own] = member.predict(features.hide(own))
                values[member.name] = known[own]
        if self.predictors:
            rows = Split(table, split.rows)
            each = [one.predict_each(rows, hidden_inputs, corruption=corruption) for one in self.predictors]
            for values, *networks in zip(found, *each, strict=True):
                values[NETWORK] = average_networks(networks, self.preparation)
        return found

    def weighted_members(self, split: Split[PreparedTable], output: str) -> dict[str, np.ndarray]:
        """By member with a weight for the output, its calibrated predictions `[rows, k]`: probabilities, or numbers on
        the scale of the task."""
        combination, space = self.ensemble.combinations[output], self.preparation.tasks[output].space
        found = self.member_values(split)
        return {
            name: to_probabilities(combination.calibrations[name].apply(found[name][output]), space)
            for name in combination.weights
        }

    def features(self, split: Split[PreparedTable]) -> FeatureTable:
        """The features of the rows, which the estimators read."""
        found = self._readable(split, None)[1]
        return self.ensemble.features.transform(split.table, split.rows) if found is None else found

    def predict_unimodal(self, split: Split[PreparedTable], name: str) -> dict[str, Predictions]:
        """The predictions of the best member that reads only the input `name`."""
        features = self._readable(split, None)[1]
        assert features is not None
        found = self.ensemble.unimodal[name].predict(features)
        return {output: Predictions(torch.from_numpy(values), {}, {}) for output, values in found.items()}

    def _readable(
        self, split: Split[PreparedTable], corruption: ItemCorruption | None
    ) -> tuple[PreparedTable, FeatureTable | None]:
        """The table that the networks read, with frozen features in place of items where several members share them,
        and the features of the estimators. Those of the last rows are kept, so that a corruption of one input computes
        the features of this input alone."""
        if self._last is None or not self._last.is_of(split):
            encoded, features = self._encoded(split.table), None
            if self.ensemble.members or self.ensemble.unimodal:
                features = self.ensemble.features.transform(split.table, split.rows, encoded=encoded)
            self._last = _Readable(split.table.inputs, split.rows, encoded, features)
        encoded, features = self._last.encoded, self._last.features
        if corruption is not None:
            name = corruption.input
            encoded = {other: one for other, one in encoded.items() if other != name}
            if features is not None:
                changed = self.ensemble.features.transform(
                    split.table, split.rows, corruption=corruption, inputs=[name]
                )
                features = FeatureTable(features.blocks | changed.blocks, features.present | changed.present)
        return replace(split.table, inputs={**split.table.inputs, **encoded}), features

    def _encoded(self, table: PreparedTable) -> dict[str, PreparedInput]:
        """The inputs with frozen features in place of items, if their frozen layers have several readers: networks and
        features, or several networks."""
        if len(self.predictors) + bool(self.ensemble.members) < 2 or not self.predictors:
            return {}
        encoded: dict[str, PreparedInput] = {}
        first, recipe = self.predictors[0], self.preparation.recipe
        for name, encoder in first.network.encoders().items():
            source = table.inputs[name]
            if any(one.network.encoders()[name] is not encoder for one in self.predictors):
                continue  # each network has weights of its own
            if isinstance(source.items, FeatureItems):
                continue
            settings = FeatureSettings.from_recipe(recipe)
            with first.running():
                modality = self.preparation.modalities[name]
                features = encode_frozen_input(encoder, modality, source, settings, folder=self.cache)
            if features is not None:
                encoded[name] = features
        return encoded


def average_networks(each: list[dict[str, Predictions]], preparation: Preparation) -> dict[str, np.ndarray]:
    """The mean of the predictions of several networks, by output, as raw predictions `[rows, k]`."""
    weights = [1 / len(each)] * len(each)
    return {
        output: average([one[output].values.numpy() for one in each], weights, task.space)
        for output, task in preparation.tasks.items()
    }
