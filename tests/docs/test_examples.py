"""Every example in a docstring of the package runs and prints what it shows."""

from __future__ import annotations

import ast
import doctest
import importlib
from pathlib import Path

import pytest

import polymodal

ROOT = Path(polymodal.__file__).parent


def has_examples(path: Path) -> bool:
    """Whether a docstring of the module holds a doctest."""
    source = path.read_text(encoding="utf-8")
    if ">>>" not in source:
        return False
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, documented)]
    return any(">>> " in (ast.get_docstring(node) or "") for node in nodes)


def module_name(path: Path) -> str:
    """The dotted name of a module of the package."""
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = sorted(module_name(path) for path in ROOT.rglob("*.py") if has_examples(path))
#: Public names whose docstrings show how to use them.
SHOWN = [
    "Ensemble",
    "Model",
    "PolymodalClassifier",
    "PolymodalRegressor",
    "compare",
    "cross_validate",
    "fit",
    "load",
    "multitask_gain",
    "predict_shards",
    "prepare",
    "pretrain",
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_module(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # some write files
    module = importlib.import_module(name)
    failed, attempted = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert attempted > 0
    assert failed == 0


@pytest.mark.parametrize("name", SHOWN)
def test_public_name_has_an_example(name: str) -> None:
    assert ">>> " in (getattr(polymodal, name).__doc__ or "")
