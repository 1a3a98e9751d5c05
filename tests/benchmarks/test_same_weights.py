"""The comparison of two checkouts has a case for every component, and finds differences."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.same_weights.__main__ import chosen_cases, compare_checkouts, show
from benchmarks.same_weights.cases import ENCODERS, FUSIONS, OBJECTIVES, all_cases
from benchmarks.same_weights.compare import compare, first_difference
from benchmarks.same_weights.content import numbers, prediction_hash, tensors
from benchmarks.same_weights.worker import file_stem

from polymodal.core.registry import components

CHECKOUT = Path(__file__).parents[2]


def test_every_component_has_a_case() -> None:
    assert set(FUSIONS) == set(components("fusion"))
    assert set(OBJECTIVES) == set(components("objective"))
    read = {name for _, _, named in ENCODERS.values() for name in named}
    read.add("embedding")  # the encoder of every category
    assert read == {name for name in components("encoder") if not name.startswith("pretrained_")}
    tasks = {case.name.partition("/")[2] for case in all_cases() if case.name.startswith("task/")}
    assert tasks | {"text_generation"} == set(components("task"))


def test_cases_have_distinct_names_and_folders_and_follow_their_start() -> None:
    names = [case.name for case in all_cases()]
    assert len(set(map(file_stem, names))) == len(names)
    for case in all_cases():
        assert case.start is None or names.index(case.start) < names.index(case.name)
    assert [case.name for case in chosen_cases(all_cases(), "init_from/*")] == [
        "objective/contrastive",
        "init_from/pretrained",
    ]


def test_names_may_change_and_values_may_not() -> None:
    old = {"a": "1", "b": "2", "c": "2"}
    assert first_difference(old, dict(old)) is None
    assert first_difference(old, {"b": "1", "c": "2", "d": "2"}) is None, "the same values under other names"
    assert first_difference(old, {"a": "2", "b": "1", "c": "2"}) == "a: 1 != 2", "the same names, exchanged values"
    assert first_difference(old, {"x": "1", "y": "2"}) == "only in old: c: 2"
    assert first_difference({"x": "1"}, {"x": "1", "y": "3"}) == "only in new: y: 3"


def run(**changes: object) -> dict[str, object]:
    return {"seconds": 1.0, "tensors": {"a": "1"}, "numbers": {}, "predictions": {"predict": "p"}, **changes}


def test_the_first_difference_of_a_case_is_reported() -> None:
    same, renamed = compare("one", run(), run()), compare("one", run(), run(tensors={"b": "1"}))
    assert same.same
    assert renamed.same
    assert renamed.renamed == ["tensors"]
    different = compare("two", run(), run(predictions={"predict": "q"}))
    assert different.first == "predictions: predict: p != q"
    assert compare("three", run(), {"error": "RecipeError: no", "seconds": 1}).first == "new: RecipeError: no"
    assert compare("four", None, run()).first == "old: the process ended before it"
    assert not compare("five", run(tensors={}), run(tensors={})).same, "without saved tensors a case is not equal"
    assert show([same, renamed]).endswith("everything is equal")
    assert show([same, different]).endswith("1 of 2 cases differ")


def test_tensors_and_numbers_are_read_by_content(tmp_path: Path) -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    save_file({"w": values, "v": values, "u": values + 1}, tmp_path / "model.safetensors")
    found = tensors(tmp_path)
    assert found["model.safetensors:w"] == found["model.safetensors:v"] != found["model.safetensors:u"]
    assert found["model.safetensors:w"].startswith("F32 [2x3] ")
    history = [{"loss": 0.5, "best": True, "seconds": 3.0}]
    (tmp_path / "run.json").write_text(json.dumps({"seconds": {"total": 1}, "training": {"history": history}}))
    assert numbers(tmp_path) == {"run.json/0/0/loss": "0.5", "run.json/0/0/best": "True"}
    assert prediction_hash(values) == prediction_hash(values.copy()) != prediction_hash(values.astype(np.float64))
    assert prediction_hash({"a": ["x"]}) != prediction_hash({"a": ["y"]})


@pytest.mark.parametrize("case", ["training/data sets and task tokens"])
def test_a_checkout_is_equal_to_itself(case: str, tmp_path: Path) -> None:
    (compared,) = compare_checkouts(CHECKOUT, CHECKOUT, chosen_cases(all_cases(), case), tmp_path)
    assert compared.first is None
    assert compared.count
