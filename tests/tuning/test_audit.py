"""The audit reports planted information, and none in noise."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polymodal.core.progress import Progress
from polymodal.tuning.audit import audit_inputs
from polymodal.tuning.audit_results import OutputAudit
from polymodal.tuning.baselines import run_baselines
from polymodal.tuning.folds import Folds
from polymodal.tuning.frozen_baselines import FrozenFeatureBaselines
from tuning.planted import all_kinds, numbers, vector

QUIET = Progress(False)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYMODAL_CACHE", str(tmp_path / "cache"))


def audited(folds: Folds) -> OutputAudit:
    return audit_inputs([], folds, progress=QUIET).outputs["target"]


def verdicts(found: OutputAudit) -> dict[str, tuple[str, list[str]]]:
    return {one.name: (one.verdict, one.partners) for one in found.inputs}


def test_every_kind_of_input_is_recognized() -> None:
    found = audited(all_kinds(360, 1))
    assert verdicts(found) == {
        "a": ("informative", []),
        "b": ("redundant", ["a"]),
        "c": ("uninformative", []),
        "d": ("synergistic", ["e"]),
        "e": ("synergistic", ["d"]),
    }
    findings = {(pair.first, pair.second): pair.interaction for pair in found.pairs if pair.interaction}
    assert findings == {("a", "b"): "redundancy", ("d", "e"): "synergy"}
    assert found.best_input == "a"
    assert found.gain_over_best.low > 0
    assert found.summary.startswith("Multimodal gain")


@pytest.mark.parametrize("seed", range(2))
def test_a_copy_is_redundant_and_one_input_is_enough(seed: int) -> None:
    found = audited(all_kinds(240, seed, "abc"))
    assert verdicts(found) == {"a": ("informative", []), "b": ("redundant", ["a"]), "c": ("uninformative", [])}
    assert found.summary.startswith("No multimodal gain: the best single input (a)")


@pytest.mark.parametrize("seed", range(2))
def test_synergy_of_an_exclusive_or_is_detected(seed: int) -> None:
    found = audited(all_kinds(240, seed, "cde"))
    assert verdicts(found) == {"c": ("uninformative", []), "d": ("synergistic", ["e"]), "e": ("synergistic", ["d"])}
    assert found.values["d + e"].value > 0.5, "of one bit"


@pytest.mark.parametrize("seed", range(2))
def test_noise_is_uninformative(seed: int) -> None:
    draw = np.random.default_rng(seed)
    inputs = {name: draw.normal(size=(120, 3)) for name in "abc"}
    found = audited(numbers(inputs, [f"k{one}" for one in draw.integers(0, 3, 120)]))
    assert [one.verdict for one in found.inputs] == ["uninformative"] * 3
    assert not any(pair.interaction for pair in found.pairs)
    assert found.summary == "No input has information about the target."


def test_values_of_a_number_are_fractions_of_its_variance() -> None:
    """The target is the sum of two independent parts, one in each input, with 4/5 and 1/5 of its variance."""
    draw = np.random.default_rng(0)
    parts = draw.normal(size=(400, 2)) * [2.0, 1.0]
    found = audited(numbers({"big": parts[:, :1], "small": parts[:, 1:]}, parts.sum(1).tolist()))
    big, small = found.inputs
    assert found.unit == "fraction of variance"
    assert big.unimodal.value == pytest.approx(0.8, abs=0.06)
    assert small.unimodal.value == pytest.approx(0.2, abs=0.06)
    assert found.values["big + small"].value == pytest.approx(1.0, abs=0.02)
    assert big.unique.value == pytest.approx(0.8, abs=0.06)
    assert (big.verdict, small.verdict) == ("informative", "informative")
    pair = found.pairs[0]
    assert abs(pair.co_information.value) < 0.06
    assert big.metric_unique.low > 0, "greater is better, also where the metric is an error"


def test_bounds_of_redundancy_and_synergy_hold_each_other() -> None:
    draw = np.random.default_rng(3)
    bits = draw.integers(0, 2, (2, 200))
    inputs = {"x": vector(bits[0], 1.0, draw), "y": vector(bits[0] & bits[1], 1.0, draw)}
    pair = audited(numbers(inputs, (bits[0] + bits[1]).astype(str).tolist())).pairs[0]
    assert pair.co_information.value == pytest.approx(pair.redundancy[0] - pair.synergy[0], abs=1e-6)
    assert pair.redundancy[1] - pair.synergy[1] == pytest.approx(pair.co_information.value, abs=1e-6)
    assert pair.redundancy[0] <= pair.redundancy[1]
    assert pair.synergy[0] <= pair.synergy[1]


def test_whole_groups_are_drawn() -> None:
    """Six rows of one person are not six independent rows: the intervals are wider than without groups."""
    draw = np.random.default_rng(0)
    person = np.repeat(np.arange(40), 6)
    bit = draw.integers(0, 2, 40)[person]
    inputs = {"a": vector(bit, 0.1, draw) + 0.8 * draw.normal(size=(40, 4))[person]}
    target = np.where(bit, "yes", "no").tolist()
    folds = numbers(inputs, target, "data.split.group_column=who", who=[f"p{one}" for one in person])
    models = FrozenFeatureBaselines(folds, progress=QUIET)
    widths = []
    for groups in (folds.reference.groups, None):
        models.predict("target", "linear", ("a",))  # the same predictions for both
        models.predict("target", "trees", ("a",))
        folds.reference.groups = groups
        alone = audit_inputs([], folds, progress=QUIET, models=models).outputs["target"].inputs[0].unimodal
        widths.append(alone.high - alone.low)
    assert widths[0] > 1.3 * widths[1] > 0


def test_the_best_network_is_compared_with_the_best_single_input() -> None:
    """The network is always correct, so it is better than the best single input by the error of that input."""
    draw = np.random.default_rng(0)
    bit = draw.integers(0, 2, 120)
    folds = numbers({"a": vector(bit, 2.0, draw), "b": draw.normal(size=(120, 2))}, bit.astype(str).tolist())
    models = FrozenFeatureBaselines(folds, progress=QUIET)
    baselines = run_baselines(folds, progress=QUIET, models=models)
    right = {"target": np.eye(2)[bit] * 0.98 + 0.01}
    recipe: dict[str, Any] = {"inputs": {"a": {}, "b": {}}}
    network = replace(
        baselines[0], name="trial 0", kind="trial", recipe=recipe, distributions=right, score=folds.score(right)
    )
    found = audit_inputs([*baselines, network], folds, progress=QUIET, models=models)
    model = found.outputs["target"].network_comparison
    assert model is not None
    assert model.multimodal == "trial 0"
    assert model.unimodal.endswith(": a")
    unimodal = max(one.score for one in baselines if one.name == model.unimodal)
    assert model.difference == pytest.approx(1 - unimodal)
    assert 0 < model.low <= model.difference <= model.high
    assert json.loads(json.dumps(found.to_dict()))["outputs"]["target"]["network_comparison"]["multimodal"] == "trial 0"
