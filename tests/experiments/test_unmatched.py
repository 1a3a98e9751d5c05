"""The reason why a column is ignored."""

import pytest

from polymodal.experiments.unmatched import why_unmatched


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([f"A-{number:04}" for number in range(40)], "identifiers such as 'A-0000'"),
        ([f"{number:06}" for number in range(40)], "identifiers such as '000000'"),
        ([{"a": 1}], "no modality matches"),
    ],
)
def test_an_ignored_column_has_a_reason(values: list[object], reason: str) -> None:
    assert why_unmatched(values).startswith(reason)
