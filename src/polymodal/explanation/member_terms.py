"""The predictions of a linear or tree member as a sum of terms, one for each feature."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from polymodal.core.errors import RecipeError, did_you_mean
from polymodal.data.partition import Split
from polymodal.estimators.terms import HasTerms, TermKey, Terms
from polymodal.inference.ensemble_predictor import EnsemblePredictor, EstimatorMember
from polymodal.preparation.preparation import PreparedTable


@dataclass(frozen=True)
class MemberTerms:
    """The raw predictions of one member for one output, as a sum of terms: `start + values.sum(axis=1)`.

    A raw prediction has one value for each class (log-probabilities up to a constant of the row), label (log-odds) or
    number (standardized). The terms are exact: coefficients times centered columns of a linear model, and the Shapley
    values of the columns in each tree of boosted trees.

    member: its name in the leaderboard
    features: the input and the name of each feature: a column, the kind of a group of features, or `missing`
    targets: the class, label or column of each value
    values: `[rows, features, targets]`
    start: `[targets]`, the prediction from which the terms start
    """

    member: str
    output: str
    features: tuple[tuple[str, str], ...]
    targets: tuple[Any, ...]
    values: np.ndarray
    start: np.ndarray

    def __len__(self) -> int:
        return len(self.values)

    def top(self, row: int, target: Any, count: int = 5) -> list[tuple[str, str, float]]:
        """The features with the largest terms in size: input, name and term."""
        terms = self.values[row, :, self.targets.index(target)]
        order = np.argsort(-np.abs(terms), kind="stable")[:count]
        return [(*self.features[at], float(terms[at])) for at in order]


def member_terms(
    predictor: EnsemblePredictor, blocks: Iterable[PreparedTable], output: str, member: str | None
) -> MemberTerms:
    """The terms of a member for the rows of prepared blocks.

    member: default: the one with the largest weight among those with terms

    Raises:
        RecipeError: there is no such member, or its prediction is no sum of terms.
    """
    chosen = _chosen(predictor, output, member)
    estimator = chosen.estimators[output]
    assert isinstance(estimator, HasTerms)
    found: list[Terms] = []
    for prepared in blocks:
        features = predictor.features(Split.all_rows(prepared))
        found.append(estimator.terms(features.select(chosen.inputs)))
    if not found:
        raise RecipeError("data", "there is no row to explain")
    return MemberTerms(
        chosen.name,
        output,
        tuple(_feature_name(predictor, key) for key in found[0].keys),
        tuple(predictor.preparation.tasks[output].class_labels),
        np.concatenate([one.values for one in found]),
        found[0].start,
    )


def _chosen(predictor: EnsemblePredictor, output: str, member: str | None) -> EstimatorMember:
    members = {one.name: one for one in predictor.ensemble.members if output in one.estimators}
    with_terms = {name: one for name, one in members.items() if isinstance(one.estimators[output], HasTerms)}
    if member is not None and member not in members:
        raise RecipeError("member", f"the model has no member {member!r}; {did_you_mean(member, members)}")
    if not with_terms or (member is not None and member not in with_terms):
        raise RecipeError(
            "member",
            f"{member or 'no member'} predicts {output!r} by a sum of terms: only linear models and boosted trees do; "
            "use contributions or explain",
        )
    weights = predictor.ensemble.combinations[output].weights
    return with_terms[member] if member else max(with_terms.values(), key=lambda one: weights.get(one.name, 0.0))


def _feature_name(predictor: EnsemblePredictor, key: TermKey) -> tuple[str, str]:
    """The input and the name of a feature."""
    if key.block < 0:
        return key.input, "missing"
    kind = list(predictor.ensemble.features.featurizers[key.input])[key.block]
    columns = predictor.preparation.modalities[key.input].columns
    if kind in ("numbers", "codes") and 0 <= key.column < len(columns):
        return key.input, columns[key.column]
    return key.input, kind if key.column < 0 else f"{kind} {key.column}"
