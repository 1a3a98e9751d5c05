"""The laws of several processes (docs/how-to/several-processes.md), with 2, 3 and 4 of them.

The cases are in `world_cases`, `training_cases` and `gradient_cases`. All cases of a launch share one process group.
"""

from __future__ import annotations

import pytest

from distributed.conftest import Results
from distributed.gradient_cases import gradient_cases
from distributed.sharded_cases import sharded_cases
from distributed.training_cases import training_cases
from distributed.world_cases import world_cases
from polymodal.core.registry import components

#: The largest relative difference, by kind of case and what is compared; 0 where nothing is named.
LIMITS = {
    ("training", "weights"): 1e-5,
    ("training", "one process"): 1e-5,
    ("training", "replicas"): 1e-5,
    ("training", "grown"): 1e-5,
    ("gradients", ""): 1e-12,
    ("gradients", "processes"): 0.0,
}
#: Cases with a wider limit: whitening divides by small variances, which amplifies rounding.
LOOSER = {"objective cca": 100.0, "uneven objective cca": 100.0}
NAMES = {
    "world": [name for name, _ in world_cases()],
    "training": [name for name, _ in [*training_cases(), *sharded_cases()]],
    "gradients": [name for name, _ in gradient_cases()],
}
SIZES = pytest.mark.parametrize("results", [2, 3], indirect=True)


def check(results: Results, kind: str, name: str) -> None:
    for rank, found in enumerate(results.get(name, [{"failed": "not reached"}])):
        assert "failed" not in found, f"process {rank}: {found['failed']}"
        for what, value in found.items():
            if what != "seconds":
                limit = LIMITS.get((kind, what), LIMITS.get((kind, ""), 0.0)) * LOOSER.get(name, 1.0)
                assert value <= limit, f"process {rank}: {what} {value}"


@SIZES
@pytest.mark.parametrize("name", NAMES["world"])
def test_processes_sum_gather_and_agree(results: Results, name: str) -> None:
    check(results, "world", name)


@SIZES
@pytest.mark.parametrize("name", NAMES["training"])
def test_a_training_equals_that_of_one_process(results: Results, name: str) -> None:
    check(results, "training", name)


@pytest.mark.parametrize("results", [4], indirect=True)
def test_copies_of_a_divided_network(results: Results) -> None:
    check(results, "training", "training hybrid")


@SIZES
@pytest.mark.parametrize("name", NAMES["gradients"])
def test_the_gradients_of_a_batch_are_those_of_one_process(results: Results, name: str) -> None:
    check(results, "gradients", name)
    if not name.startswith("random"):
        assert sum("gradients" in found for found in results[name]) == 1  # one process compares


@pytest.mark.parametrize(("kind", "prefix"), [("fusion", "fusion"), ("decoder", "decoder"), ("objective", "objective")])
def test_every_component_has_a_case(kind: str, prefix: str) -> None:
    named = " ".join(NAMES["gradients"])
    missing = [name for name in components(kind) if f"{prefix} {name}" not in named]
    assert missing in ([], ["timeline"])  # the decoder of event detection, which has a case of its own
