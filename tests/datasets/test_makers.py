"""Every public name of `polymodal.datasets` gives a small table that opens, the same for the same seed."""

from __future__ import annotations

import doctest
import importlib
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from polymodal import datasets
from polymodal.data.table.concat import open_data

MAKERS = [name for name in datasets.__all__ if name.startswith("make_")]
MODULES = sorted({getattr(datasets, name).__module__ for name in datasets.__all__})


def plain(columns: dict[str, list[Any]]) -> dict[str, list[Any]]:
    return {name: [c.tobytes() if hasattr(c, "tobytes") else c for c in cells] for name, cells in columns.items()}


@pytest.mark.parametrize("name", MAKERS)
def test_every_maker_gives_a_seeded_table_by_its_defaults(name: str, tmp_path: Path) -> None:
    make = getattr(datasets, name)
    columns = make()
    [rows] = {len(cells) for cells in columns.values()}
    assert 0 < rows <= 100
    assert len(open_data(columns, cache=tmp_path)) == rows
    if name not in ("make_repairs", "make_test_suites"):  # these run programs; `tests/datasets/test_code.py` has them
        assert plain(make()) == plain(columns)
    assert plain(make(2, seed=1)) != plain(make(2, seed=2))


@pytest.mark.parametrize("name", [name for name in datasets.__all__ if name.startswith(("make_", "load_"))])
def test_the_documentation_names_every_column(name: str) -> None:
    function = getattr(datasets, name)
    documentation = inspect.getdoc(function) or ""
    assert "Columns: " in documentation
    assert ">>> " in documentation
    if name.startswith("make_"):
        parameters = list(inspect.signature(function).parameters.values())
        assert [one.name for one in parameters[:2]] in (["rows", "seed"], ["scenes", "seed"])
        assert all(one.default is not one.empty for one in parameters)


@pytest.mark.parametrize("module", MODULES)
def test_examples_of_the_documentation_run(module: str) -> None:
    result = doctest.testmod(importlib.import_module(module))
    assert result.attempted > 0
    assert result.failed == 0


def test_makers_and_loaders_are_public() -> None:
    for module in map(importlib.import_module, MODULES):
        made = {n for n, f in vars(module).items() if inspect.isfunction(f) and f.__module__ == module.__name__}
        assert {name for name in made if name.startswith(("make_", "load_"))} <= set(datasets.__all__)
    with pytest.raises(AttributeError, match="make_nothing"):
        datasets.make_nothing  # noqa: B018


def test_the_package_is_light_until_a_name_is_used() -> None:
    heavy = "[name for name in ('torch', 'numpy', 'PIL', 'pyarrow') if name in sys.modules]"
    code = f"import sys, polymodal.datasets; found = {heavy}; assert not found, found"
    subprocess.run([sys.executable, "-c", code], check=True)
