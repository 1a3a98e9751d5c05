"""The reason why a column is ignored."""

import hashlib
import uuid
from typing import Any

import numpy as np
import pytest

from polymodal.data.table.sample import ColumnSample
from polymodal.experiments.unmatched import why_unmatched
from polymodal.workflows.fit import plan_fit


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([f"A-{number:04}" for number in range(40)], "identifiers such as 'A-0000'"),
        ([f"{number:06}" for number in range(40)], "identifiers such as '000000'"),
        (list(range(1, 41)), "whole numbers such as 1 that differ in every row, like row numbers or keys"),
        ([2**60 + 7919 * number for number in np.random.default_rng(0).permutation(40)], "whole numbers such as"),
        ([{"a": 1}], "no modality matches"),
    ],
)
def test_an_ignored_column_has_a_reason(values: list[Any], reason: str) -> None:
    sample = ColumnSample("code", values, None, len(values), len(values), 0, None)
    assert why_unmatched(sample).startswith(reason)


def test_identifiers_are_left_out_and_features_are_kept() -> None:
    rows, draw = 200, np.random.default_rng(0)
    shuffled = draw.permutation(rows)
    columns: dict[str, list[Any]] = {
        "nr": list(range(1, rows + 1)),
        "entry": [int(number) + 1000 for number in shuffled],
        "customer_id": draw.choice(10**6, rows, replace=False).tolist(),
        "token": [str(uuid.UUID(int=int(number) * 2**90 + 7)) for number in shuffled],
        "digest": [hashlib.sha256(bytes([number])).hexdigest() for number in range(rows)],
        "ticket": [f"T{number:05}" for number in [*range(rows - 4), 1, 2, 3, 4]],
        "year": list(range(1820, 1820 + rows)),
        "age": draw.integers(18, 80, rows).tolist(),
        "branch": [int(number) for number in draw.choice([101, 205, 309], rows)],
        "y": ["a", "b"] * (rows // 2),
    }
    plan, _ = plan_fit(columns, "y")
    roles = {role.column: role for role in plan.roles}
    for name in ("nr", "entry", "customer_id", "token", "digest", "ticket"):
        assert roles[name].role == "ignored", name
        assert "differ in" in roles[name].reason
    assert {roles[name].role for name in ("year", "age", "branch")} == {"input"}
