"""The public functions return a result or raise an error of the package, whatever they are given."""

from __future__ import annotations

import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from laws.entry_points import ESTIMATORS, World, public_callables
from laws.odd_values import ARGUMENTS, odd_table
from polymodal.core.errors import PolymodalError

#: Parameters that take a table.
TABLES = {"data", "rows", "row", "validation", "test", "unlabeled", "against", "columns", "X"}
#: Calls of an entry point whose call costs 1; one of cost n is called a n-th as often, but at least 6 times.
CASES = 90
#: Without these settings, a training takes minutes.
NO_SETTINGS: list[Any] = [None, [], (), {}]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Tiny models, in a folder that is the working one, with a file and a folder that are none of the package's."""
    folder = tmp_path_factory.mktemp("world")
    (folder / "a-file.txt").write_text("not a table")
    (folder / "a-folder").mkdir()
    (folder / "a-folder" / "notes.txt").write_text("not a model")
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.chdir(folder)
        yield World(folder)


@pytest.fixture(scope="module")
def counts() -> Iterator[Counter[str]]:
    """The number of calls by their outcome."""
    found: Counter[str] = Counter()
    yield found
    print(f"\n{found.total()} calls of public functions: {dict(found)}")  # shown by `pytest -s`


def test_every_public_function_is_called(world: World) -> None:
    """A new one fails here until `laws.entry_points` has a call of it."""
    assert set(world.entry_points()) == public_callables()


@pytest.mark.parametrize("name", sorted(public_callables()))
@pytest.mark.filterwarnings("ignore")
def test_whatever_is_given_the_error_is_typed(name: str, world: World, counts: Counter[str]) -> None:
    entry = world.entry_points()[name]
    draw, failures = Random(name), []
    allowed: tuple[type[Exception], ...] = (PolymodalError,)
    if name.split(".")[0] in ESTIMATORS:
        allowed = (PolymodalError, ValueError, TypeError)  # the contract of scikit-learn
    for _ in range(max(6, CASES // entry.cost) if entry.parameters else 0):
        changed = odd_arguments(draw, entry.parameters, world.table if "Index" not in name else {"color": ["red"]})
        try:
            entry.call(**{**entry.arguments, **changed})
            counts["result"] += 1
        except allowed as error:
            counts["typed error" if str(error).strip() else "error without a message"] += 1
        except Exception as error:  # noqa: BLE001  # this is what the law is about
            where = traceback.extract_tb(error.__traceback__)[-1]
            shown = {key: repr(value)[:200] for key, value in changed.items()}
            failures.append(f"{type(error).__name__} ({str(error)[:80]}) in {where.filename}:{where.lineno} by {shown}")
    assert not failures, "\n" + "\n".join(failures)
    assert not counts["error without a message"]


def odd_arguments(draw: Random, parameters: list[str], sound: dict[str, list[Any]]) -> dict[str, Any]:
    """One or two of the parameters with an odd value; those that take a table most often."""
    weights = [4 if name in TABLES else 1 for name in parameters]
    names = {draw.choices(parameters, weights)[0] for _ in range(draw.choice([1, 1, 2]))}
    return {name: _odd_value(draw, name, sound) for name in sorted(names)}


def _odd_value(draw: Random, name: str, sound: dict[str, list[Any]]) -> Any:
    if name in TABLES and draw.random() < 0.85:
        return odd_table(draw, sound)
    values = ARGUMENTS
    if name == "settings":
        values = [value for value in ARGUMENTS if not any(value is one or _equal(value, one) for one in NO_SETTINGS)]
    return draw.choice(values)


def _equal(one: Any, other: Any) -> bool:
    return type(one) is type(other) and isinstance(one, list | tuple | dict) and one == other
