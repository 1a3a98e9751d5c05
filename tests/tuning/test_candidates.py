"""Candidates are kept and scored as they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from polymodal.core.errors import ArtifactError
from polymodal.datasets.planted import make_planted_table
from polymodal.experiments.arguments import as_recipe, as_table
from polymodal.experiments.plan import make_plan
from polymodal.tuning.candidate import Candidate
from polymodal.tuning.folds import Folds
from tuning.searches import RECIPE, data


def folds(columns: dict, target: str, count: int, settings: list[str]) -> Folds:
    table = as_table(columns, None)
    assert table is not None
    return Folds(table, make_plan(table, as_recipe(None, settings), [target]).recipe, count)


def candidate(divided: Folds, distributions: dict[str, np.ndarray]) -> Candidate:
    return Candidate(
        "trial 3",
        "trial",
        RECIPE,
        distributions,
        divided.score(distributions),
        divided.metrics(distributions),
        divided.fold_scores(distributions),
        1.5,
        10,
        0.1,
        None,
        len(divided.fold_scores(distributions)),
    )


def test_a_candidate_is_read_back_as_it_was_kept(tmp_path: Path) -> None:
    divided = folds(data(40), "target", 2, [])
    distributions = divided.reference.empty()
    distributions["target"][divided.splits[0]["test"].rows] = [0.25, 0.75]
    kept = candidate(divided, distributions)
    kept.save(tmp_path, "3")
    found = Candidate.load(tmp_path, "3")
    np.testing.assert_array_equal(found.distributions["target"], distributions["target"])
    assert replace(found, distributions={}) == replace(kept, distributions={})
    assert not list(tmp_path.glob("*.part"))


def test_an_undefined_score_is_read_back_as_undefined(tmp_path: Path) -> None:
    divided = folds(data(40), "target", 2, [])
    kept = replace(candidate(divided, divided.reference.empty()), score=float("nan"), fold_scores=[float("nan")])
    kept.save(tmp_path, "0")
    found = Candidate.load(tmp_path, "0")
    assert np.isnan(found.score)
    assert np.isnan(found.fold_scores[0])


def test_a_candidate_with_a_lost_array_is_refused(tmp_path: Path) -> None:
    divided = folds(data(40), "target", 2, [])
    candidate(divided, divided.reference.empty()).save(tmp_path, "0")
    next(tmp_path.glob("*.npy")).unlink()
    with pytest.raises(ArtifactError, match="is missing"):
        Candidate.load(tmp_path, "0")


def test_scores_are_those_of_the_decided_rows_together_and_fold_by_fold() -> None:
    columns = data(60)
    divided = folds(columns, "target", 3, [])
    right = np.array(columns["target"]) == "yes"
    distributions = divided.reference.empty()
    for part in divided.splits[:2]:
        distributions["target"][part["test"].rows] = [0.1, 0.9]  # "no" comes before "yes"
    decided = divided.predicted_rows(distributions)
    assert sorted(decided) == sorted(np.concatenate([part["test"].rows for part in divided.splits[:2]]))
    assert divided.score(distributions) == pytest.approx(right[decided].mean())
    assert divided.fold_scores(distributions) == pytest.approx(
        [right[part["test"].rows].mean() for part in divided.splits[:2]]
    )
    scores = divided.metrics(distributions)["target"]["accuracy"]
    assert scores["value"] == pytest.approx(right[decided].mean())
    assert scores["low"] is not None
    assert scores["high"] is not None
    assert scores["low"] < scores["value"] < scores["high"]  # type: ignore[operator]
    assert divided.metrics(distributions, intervals=False)["target"]["accuracy"]["low"] is None


def test_an_error_is_turned_so_that_greater_is_better() -> None:
    columns = make_planted_table(60, seed=0)
    divided = folds(columns, "price", 3, ["data.ignore_columns=[grade]"])
    price = np.array(columns["price"])
    near, far = ({"price": (price + shift)[:, None]} for shift in (1.0, 5.0))
    assert not divided.metric.greater_is_better
    assert divided.score(near) == pytest.approx(-1.0)
    assert divided.score(far) == pytest.approx(-5.0)
    assert divided.metrics(near, intervals=False)["price"][divided.metric.name]["value"] == pytest.approx(1.0)


def test_every_row_is_in_one_fold_and_groups_stay_together() -> None:
    who = np.arange(60) % 12
    columns = {**data(60), "who": [f"p{one}" for one in who]}
    divided = folds(columns, "target", 3, ["data.split.group_column=who"])
    assert sorted(np.concatenate([part["test"].rows for part in divided.splits])) == list(range(60))
    for one in range(12):
        assert len(set(divided.fold_of[who == one])) == 1
