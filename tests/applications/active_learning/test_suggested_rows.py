"""`suggest` on trained models: every task, ensembles, models without outputs, and rows that must not be suggested."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

import polymodal
from polymodal.applications.active_learning.suggest import Strategy, suggest
from polymodal.core.errors import DataError, RecipeError
from polymodal.data.table.cell_errors import BadCellsWarning
from polymodal.model.model import Model

RECIPE: dict[str, Any] = {
    "hidden_size": 16,
    "inputs": {"x": {"modality": "number", "columns": ["a", "b"]}},
    "training": {"epochs": 20, "batch_size": 16, "precision": "fp32", "num_threads": 1},
    "evaluation": {"bootstrap_samples": 0, "unimodal_scores": "none"},
}


def rows(count: int, seed: int) -> dict[str, list[Any]]:
    """Points of the plane; the class is the side of the line b = 0, and the other targets follow from it."""
    a, b = np.random.default_rng(seed).normal(size=(2, count))
    return {
        "a": a.tolist(),
        "b": b.tolist(),
        "side": np.where(b > 0, "up", "down").tolist(),
        "both": [[*(["right"] if x > 0 else []), *(["up"] if y > 0 else [])] for x, y in zip(a, b, strict=True)],
        "height": (b + 1).tolist(),
    }


TASKS = {"side": "classification", "both": "multilabel_classification", "height": "regression"}


def trained(target: str, seed: int = 0) -> Model:
    recipe = RECIPE | {"outputs": {target: TASKS[target]}, "seed": seed}
    return polymodal.fit(rows(120, 0), recipe=recipe)


@pytest.fixture(scope="module")
def models() -> dict[str, Model]:
    return {target: trained(target) for target in TASKS}


@pytest.fixture(scope="module")
def committees(models: dict[str, Model]) -> dict[str, Any]:
    return {target: polymodal.ensemble([model, trained(target, 1)]) for target, model in models.items()}


@pytest.fixture
def pool() -> dict[str, list[Any]]:
    return {name: cells for name, cells in rows(150, 7).items() if name not in TASKS}


SERVES = {
    "side": set(get_args(Strategy)) - {"committee"},
    "both": set(get_args(Strategy)) - {"committee"},
    "height": {"mixed", "coreset", "typical"},
}


@pytest.mark.parametrize("target", TASKS)
def test_every_strategy_suggests_rows_or_explains_why_it_cannot(
    target: str, models: dict[str, Model], committees: dict[str, Any], pool: dict[str, list[Any]]
) -> None:
    for by in get_args(Strategy):
        for model, serves in (
            (models[target], by in SERVES[target]),
            (committees[target], by in SERVES[target] | {"committee"}),
        ):
            if not serves:
                with pytest.raises(RecipeError, match="strategy: "):
                    suggest(model, pool, 10, strategy=by)
                continue
            found, again = (suggest(model, pool, 10, strategy=by, seed=3) for _ in range(2))
            assert found == again
            assert len(set(found.rows)) == 10
            assert found.pool_size == 150
            assert all(one.reason for one in found)


def test_uncertain_rows_are_near_the_decision_boundary(models: dict[str, Model], pool: dict[str, list[Any]]) -> None:
    height = np.abs(pool["b"])
    for by in ("margin", "entropy", "least_confident", "mixed", "badge"):
        chosen = suggest(models["side"], pool, 10, strategy=by)
        assert height[chosen.rows].mean() < 0.7 * height.mean(), by
        assert all("up" in one.reason for one in chosen)


def test_rows_with_disagreeing_members_are_suggested(committees: dict[str, Any], pool: dict[str, list[Any]]) -> None:
    for target in ("side", "height"):
        committee = committees[target]
        found = suggest(committee, pool, 10, strategy="committee")
        each = [np.asarray(member.predict_proba(pool))[:, -1].reshape(-1) for member in committee.members]
        apart = np.abs(each[0] - each[1])
        assert apart[found.rows].mean() > 2 * apart.mean()
        assert found.suggestions[0].reason.startswith("members")
        assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)


def test_labeled_rows_are_skipped_and_core_sets_are_far_from_them(models: dict[str, Model]) -> None:
    table = rows(150, 7)
    table["side"] = [side if row < 100 else None for row, side in enumerate(table["side"])]
    for by in get_args(Strategy):
        if by != "committee":
            found = suggest(models["side"], table, 10, strategy=by)
            assert min(found.rows) >= 100
            assert (found.pool_size, found.num_labeled) == (50, 100)
    first = suggest(models["side"], table, 1, strategy="coreset").rows[0]
    table["side"] = ["up" if row == first else None for row in range(150)]
    assert suggest(models["side"], table, 1, strategy="coreset").rows[0] != first
    with pytest.raises(DataError, match="150 rows with a label"):
        suggest(models["side"], rows(150, 7), 10)
    marked = table | {"done": [1] * 149 + [None]}
    assert suggest(models["side"], marked, 5, target="done").rows == [149]


def test_a_bad_cell_is_listed_and_its_row_is_not_suggested(
    models: dict[str, Model], pool: dict[str, list[Any]]
) -> None:
    pool["a"] = [str(value) for value in pool["a"]]
    pool["a"][3], pool["a"][4], pool["b"][4] = "not a number", None, None
    with pytest.warns(BadCellsWarning, match="row 3"):
        found = suggest(models["side"], pool, 150)
    assert [fault.row for fault in found.cell_errors] == [3]
    assert found.num_empty == 1
    assert not {3, 4} & set(found.rows)
    with pytest.raises(DataError, match="row 3"):
        suggest(models["side"], pool, 5, strict=True)


def test_near_duplicates_are_suggested_once(models: dict[str, Model], pool: dict[str, list[Any]]) -> None:
    pool = {name: [*cells, *cells] for name, cells in pool.items()}
    for by in get_args(Strategy):
        if by != "committee":
            found = suggest(models["side"], pool, 12, strategy=by)
            assert len({row % 150 for row in found.rows}) == 12, by


def test_a_model_without_outputs_suggests_typical_rows(pool: dict[str, list[Any]], tmp_path: Path) -> None:
    pairs = {**pool, "c": [-value for value in pool["a"]]}
    inputs = RECIPE["inputs"] | {"y": {"modality": "number", "columns": ["c"]}}
    settings = ["training.epochs=2"]
    polymodal.pretrain(pairs, recipe=RECIPE | {"inputs": inputs}, settings=settings, out=tmp_path / "start")
    for by in ("typical", "coreset", "mixed"):
        assert len(suggest(tmp_path / "start", pairs, 8, strategy=by)) == 8  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="typical or coreset"):
        suggest(tmp_path / "start", pairs, 8, strategy="margin")


def test_invalid_arguments_are_rejected(models: dict[str, Model], pool: dict[str, list[Any]]) -> None:
    with pytest.raises(RecipeError, match="unknown strategy 'best'"):
        suggest(models["side"], pool, strategy="best")  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="did you mean 'side'"):
        suggest(models["side"], pool, output="sid")
    with pytest.raises(DataError, match="no such column"):
        suggest(models["side"], pool, target="sid")
