"""A network beside the members of a model: the better of the two is the model."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import polymodal
from polymodal.core.progress import Progress
from polymodal.data.partition import Split
from polymodal.experiments.plan import Plan
from polymodal.experiments.train_alternative import NAME
from polymodal.model.model import Model
from polymodal.workflows.fit import plan_fit, run_plan
from polymodal.workflows.run_folder import RunFolder

COMPUTE = {"precision": "fp32", "num_threads": 1}
QUICK = {"evaluation": {"bootstrap_samples": 0, "unimodal_scores": "none"}}
NETWORK = {"epochs": 30, "batch_size": 32, "learning_rate": 0.01}


def rows(related: bool) -> dict[str, list[Any]]:
    """600 rows with two numbers and a class: the sign of their product (`related`), or that of the first one. One in
    ten classes is random."""
    random = np.random.default_rng(0)
    first, second = random.normal(size=(2, 600))
    signal = first * second if related else first
    classes = np.where(random.random(600) < 0.1, random.integers(0, 2, 600), signal > 0)
    return {"first": first.tolist(), "second": second.tolist(), "kind": np.array(["no", "yes"])[classes].tolist()}


def planned(related: bool) -> tuple[Plan, dict[str, Split[Any]]]:
    """A linear model, and a network as the alternative."""
    linear = {"members": ["linear"], "network": False, "training": COMPUTE, **QUICK}
    network = {"members": [], "hidden_size": 32, "training": NETWORK | COMPUTE, **QUICK}
    plan, splits = plan_fit(rows(related), "kind", recipe=linear)
    return replace(plan, alternative=plan_fit(rows(related), "kind", recipe=network)[0].recipe), splits


def trained(related: bool, out: Path | None = None, *, resume: bool = False) -> Model:
    plan, splits = planned(related)
    return run_plan(plan, splits, RunFolder(out, resume=resume), Progress(False))


def test_the_network_is_the_model_if_it_finds_what_the_members_cannot(tmp_path: Path) -> None:
    model = trained(related=True, out=tmp_path / "run")
    assert model.ensemble is None
    assert model.metrics["test"]["kind"]["accuracy"]["value"] > 0.75  # the linear model guesses
    first, *others = model.leaderboard()
    assert (first.member, first.weight) == (NAME, 1.0)
    assert [(one.member, one.weight) for one in others] == [("linear", 0.0)]
    assert any(NAME in notice and "is the model" in notice for notice in model.run.notices)
    loaded = polymodal.load(tmp_path / "run")
    assert loaded.predict(rows(related=True)) == model.predict(rows(related=True))
    assert not list((tmp_path / "run").rglob("checkpoint.safetensors"))
    assert trained(related=True, out=tmp_path / "run", resume=True).run.members == model.run.members


def test_the_members_stay_if_the_network_is_not_better_beyond_doubt() -> None:
    model = trained(related=False)
    assert model.ensemble is not None
    assert {one.member: one.weight for one in model.leaderboard()} == {"linear": 1.0, NAME: 0.0}
    assert any(NAME in notice and "not better" in notice for notice in model.run.notices)


def test_a_surer_network_is_not_better_where_both_are_right_in_all_rows() -> None:
    """Both models get all 40 validation rows right. The network is surer of them, so its loss is lower in every row."""
    random = np.random.default_rng(0)
    first = random.choice([-1, 1], 300) * random.uniform(0.3, 2, 300)
    wrong = np.arange(300) % 100 == 0  # in the training rows alone
    signs = np.array(["no", "yes"])[((first > 0) ^ wrong).astype(int)].tolist()
    parts = ["validation" if row % 20 in (1, 5, 9) and row < 260 else "train" for row in range(300)]
    table = {"first": first.tolist(), "kind": signs, "part": parts}
    split = {"data": {"split": {"column": "part"}}, **QUICK}
    trees = {"members": ["gradient_boosting"], "network": False, "training": COMPUTE, **split}
    network = {"members": [], "hidden_size": 32, "training": NETWORK | COMPUTE, **split}
    plan, splits = plan_fit(table, "kind", recipe=trees)
    plan = replace(plan, alternative=plan_fit(table, "kind", recipe=network)[0].recipe)
    model = run_plan(plan, splits, RunFolder(None), Progress(False))
    assert model.ensemble is not None
    (notice,) = (one for one in model.run.notices if NAME in one)
    network_loss, trees_loss = map(float, re.findall(r"[\d.e-]+(?= against|\))", notice))
    assert network_loss < 0.5 * trees_loss


def test_equal_runs_are_equal() -> None:
    first, second = trained(related=True), trained(related=True)
    assert first.predict_proba(rows(True)).tolist() == second.predict_proba(rows(True)).tolist()
