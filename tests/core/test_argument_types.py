"""A public function checks its arguments against their annotations, whatever is passed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from laws.odd_values import ARGUMENTS, CELLS
from polymodal.core.argument_types import check_arguments, describe, matches
from polymodal.core.errors import RecipeError

Method = Literal["average", "vote"]


@check_arguments
def example(
    number: int = 1,
    share: float = 0.5,
    switch: bool = False,
    name: str | None = None,
    folder: Path | str | None = None,
    method: Method = "average",
    names: list[str] | Mapping[str, Any] | None = None,
    rows: Sequence[int] | np.ndarray | None = None,
    data: Any = None,
    **changes: Any,
) -> str:
    return "called"


def test_every_value_is_accepted_or_refused_with_the_name_of_its_argument() -> None:
    parameters = ["number", "share", "switch", "name", "folder", "method", "names", "rows"]
    errors = []
    for value in [*ARGUMENTS, *CELLS]:
        assert example(data=value, other=value) == "called"
        for name in parameters:
            try:
                assert example(**{name: value}) == "called"
            except RecipeError as error:
                errors.append((name, error))
    assert [name for name, _ in errors] == [error.path for _, error in errors]
    assert all(str(error).encode() and len(str(error)) < 300 for _, error in errors)
    assert len(errors) > 0.6 * len(parameters) * len([*ARGUMENTS, *CELLS])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"number": "3"}, r"number: must be a whole number, not '3' \(str\)"),
        ({"number": True}, "number: must be a whole number, not True"),
        ({"switch": 1}, "switch: must be true or false, not 1"),
        ({"name": 3}, "name: must be a text or None, not 3"),
        ({"folder": "a\0b"}, "folder: the path .* holds a NUL character"),
        ({"folder": "a/" + "n" * 300}, "folder: the path .* is too long"),
        ({"folder": ""}, "folder: the path is empty"),
        ({"method": "vot"}, "method: unknown method 'vot'; did you mean 'vote'"),
        ({"names": "a=b"}, "names: must be a list of texts, a mapping of texts to values or None, not 'a=b'"),
        ({"names": [1]}, "names: must be a list of texts"),
        ({"rows": "12"}, "rows: must be a list of whole numbers, an array or None"),
    ],
)
def test_the_message_says_what_is_expected(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        example(**arguments)


def test_numbers_of_numpy_and_tuples_are_accepted() -> None:
    assert example(np.int64(3), np.float32(1), np.bool_(True), names=("a", "b"), rows=range(3)) == "called"
    assert example(share=3, folder=Path("a"), names={"a": 1}, rows=np.arange(2)) == "called"


def test_a_wrong_keyword_is_an_error_of_python() -> None:
    with pytest.raises(TypeError, match=r"plain\(\) got an unexpected keyword argument 'numbr'; did you mean 'number'"):
        check_arguments(plain)(numbr=3)  # type: ignore[call-arg]
    assert not matches({1: 2}, dict[str, Any])
    assert describe(dict[str, Any] | None) == "a mapping of texts to values or None"


def plain(number: int = 1) -> int:
    return number
