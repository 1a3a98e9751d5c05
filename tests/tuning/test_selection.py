"""Ensembles selected on out-of-fold predictions, scores corrected for selection bias, and the Pareto front."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from polymodal.core.errors import RecipeError
from polymodal.core.progress import Progress
from polymodal.data.table.table import Table, open_table
from polymodal.experiments.plan import make_plan
from polymodal.model.loading import load
from polymodal.recipe.recipe import Recipe
from polymodal.tuning.candidate import Candidate
from polymodal.tuning.folds import Folds
from polymodal.tuning.pareto import pareto_front
from polymodal.tuning.refit import refit_best
from polymodal.tuning.selection import MAX_PICKS, select_ensemble
from polymodal.tuning.selection_bias import correct_selection_bias

ROWS = 240
SETTINGS = {
    "hidden_size": 8,
    "training": {"epochs": 2, "precision": "fp32", "num_threads": 1},
    "evaluation": {"bootstrap_samples": 20},
}


def table(folder: Path, target: str = "classes") -> Table:
    draw = np.random.default_rng(0)
    x = draw.normal(size=ROWS)
    y = np.where(x + draw.normal(size=ROWS) > 0, "yes", "no").tolist() if target == "classes" else (2 * x).tolist()
    return open_table({"x": x.tolist(), "y": y}, cache=folder / "tables")


def folds(folder: Path, target: str = "classes", count: int = 4) -> Folds:
    rows = table(folder, target)
    outputs = {"y": "classification" if target == "classes" else "regression"}
    return Folds(rows, make_plan(rows, Recipe(outputs=outputs, **SETTINGS)).recipe, count)


def candidate(name: str, made: Folds, values: np.ndarray, **changed: object) -> Candidate:
    facts = {
        "kind": "trial",
        "recipe": made.recipe.to_dict(),
        "score": made.score({"y": values}),
        "metrics": {},
        "fold_scores": [],
        "seconds": 1.0,
        "num_parameters": 1,
        "size_mib": 1.0,
        "latency_ms": 1.0,
        "num_folds": len(made),
    }
    return Candidate(name=name, distributions={"y": values}, **{**facts, **changed})


def opinions(made: Folds, count: int, strength: float, seed: int = 7) -> list[Candidate]:
    """Candidates that know the truth a little, each with noise of its own."""
    draw = np.random.default_rng(seed)
    truth = made.reference.truth.targets["y"][0].reshape(-1)
    found = []
    for number in range(count):
        logit = strength * (2 * truth - 1) + draw.normal(size=ROWS)
        yes = 1 / (1 + np.exp(-logit))
        found.append(candidate(f"trial {number}", made, np.stack([1 - yes, yes], 1)))
    return found


def test_an_ensemble_of_independent_opinions_beats_each_and_never_falls_below_the_best(tmp_path: Path) -> None:
    made = folds(tmp_path)
    several = opinions(made, 6, 0.4)
    chosen = select_ensemble(several, made)
    assert chosen is not None
    assert chosen.score >= chosen.best_single_score == max(one.score for one in several)
    assert chosen.score > chosen.best_single_score + 0.03
    assert len(chosen.members) > 1
    assert sum(chosen.weights) == pytest.approx(1)
    copies = select_ensemble([candidate(f"trial {n}", made, several[0].distributions["y"]) for n in range(4)], made)
    assert copies is not None
    assert len(copies.members) == 1
    assert copies.score == several[0].score


def test_pruned_candidates_and_baselines_are_no_members(tmp_path: Path) -> None:
    made = folds(tmp_path)
    first, second, third = opinions(made, 3, 2.0)
    pruned = candidate("trial 9", made, second.distributions["y"], num_folds=2)
    baseline = candidate("ridge", made, third.distributions["y"], kind="baseline", recipe=None)
    chosen = select_ensemble([first, pruned, baseline], made)
    assert chosen is not None
    assert [one.name for one in chosen.members] == [first.name]
    assert select_ensemble([pruned, baseline], made) is None


def test_numbers_are_averaged_too(tmp_path: Path) -> None:
    made = folds(tmp_path, "numbers")
    draw = np.random.default_rng(1)
    truth = np.array(made.table.values("y", np.arange(ROWS)).to_pylist())
    several = [candidate(f"trial {n}", made, (truth + draw.normal(size=ROWS))[:, None]) for n in range(5)]
    chosen = select_ensemble(several, made)
    assert chosen is not None
    assert chosen.score > chosen.best_single_score
    assert len(chosen.members) <= MAX_PICKS


def test_the_best_of_many_guesses_is_corrected_to_chance(tmp_path: Path) -> None:
    """Forty random candidates: the best has a high out-of-fold score, and the corrected score is chance."""
    made = folds(tmp_path)
    guesses = opinions(made, 40, 0.0)
    truth = made.reference.truth.targets["y"][0].reshape(-1)
    chance = max(truth.mean(), 1 - truth.mean())
    flattering = max(one.score for one in guesses)
    corrected = correct_selection_bias(guesses, made)
    assert flattering > 0.56
    assert abs(corrected["best"].value - 0.5) < 0.035 < flattering - corrected["best"].value + 0.02
    assert corrected["best"].low < 0.5 < corrected["best"].high
    assert corrected["ensemble"].value < chance + 0.05
    sure = opinions(made, 3, 3.0)
    assert correct_selection_bias(sure, made)["best"].value == pytest.approx(max(one.score for one in sure), abs=0.02)


def test_the_front_contains_the_candidates_that_are_not_dominated(tmp_path: Path) -> None:
    made = folds(tmp_path)
    values = opinions(made, 1, 1.0)[0].distributions["y"]
    facts = {"a": (0.9, 5.0), "b": (0.8, 1.0), "c": (0.8, 2.0), "d": (0.7, 0.5), "e": (0.85, 6.0)}
    several = [candidate(n, made, values, score=score, latency_ms=ms) for n, (score, ms) in facts.items()]
    assert [one.name for one in pareto_front(several, ["score", "latency"])] == ["a", "b", "d"]
    assert [one.name for one in pareto_front(several, ["latency", "score"])] == ["d", "b", "a"]
    assert [one.name for one in pareto_front(several, ["score"])] == ["a"]
    with pytest.raises(RecipeError, match="did you mean 'latency'"):
        pareto_front(several, ["latncy"])


def test_the_chosen_are_trained_on_all_rows_and_saved(tmp_path: Path) -> None:
    made = folds(tmp_path)
    several = opinions(made, 3, 0.5)
    chosen = select_ensemble(several, made)
    assert chosen is not None
    assert len(chosen.members) > 1
    best, ensemble = refit_best(made, chosen.members[0], chosen, out=tmp_path / "out", progress=Progress(False))
    assert best.run.splits["train"].rows + best.run.splits["validation"].rows == ROWS
    assert ensemble is not None
    rows = {"x": [-3.0, 3.0]}
    weights = chosen.weights if chosen.method == "weighted" else None
    if weights is not None:
        each = [member.predict_proba(rows) for member in ensemble.members]
        mixed = sum(weight * one for weight, one in zip(weights, each, strict=True))
        np.testing.assert_allclose(ensemble.predict_proba(rows), mixed, atol=1e-5)
    np.testing.assert_array_equal(load(tmp_path / "out/ensemble").predict_proba(rows), ensemble.predict_proba(rows))
    np.testing.assert_array_equal(load(tmp_path / "out/best").predict_proba(rows), best.predict_proba(rows))
