"""Properties of the registry of components."""

from __future__ import annotations

import subprocess
import sys

import pytest

from polymodal.core.errors import RecipeError
from polymodal.core.registry import KINDS, components, find


@pytest.mark.parametrize("kind", KINDS)
def test_each_of_our_components_is_in_the_module_of_its_name(kind: str) -> None:
    """`find` imports this module only."""
    own = {name: one.__module__ for name, one in components(kind).items() if one.__module__.startswith("polymodal.")}
    assert own == {name: f"{KINDS[kind]}.{name}" for name in own}


@pytest.mark.parametrize("kind", KINDS)
def test_find_returns_what_components_lists(kind: str) -> None:
    assert {name: find(kind, name) for name in components(kind)} == components(kind)


@pytest.mark.parametrize("name", ["base", "no such", "../base", "", "lineer"])
def test_a_name_that_is_no_component_is_an_error_with_the_nearest(name: str) -> None:
    with pytest.raises(RecipeError, match="there is no encoder"):
        find("encoder", name)


def test_find_imports_one_module_of_a_kind() -> None:
    code = """
import sys
from polymodal.core.registry import find
assert find("fusion", "gated").__name__ == "Gated"
assert "polymodal.nn.fusion.perceiver" not in sys.modules
from polymodal.core.registry import components
assert components("fusion")["gated"] is find("fusion", "gated")
assert "perceiver" in components("fusion")
"""
    subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
