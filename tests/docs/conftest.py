"""The generator of the reference, and the reference in a folder of its own."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="session")
def generator() -> ModuleType:
    """The package `docs/_generate`, imported as Sphinx imports it."""
    if str(DOCS) not in sys.path:
        sys.path.append(str(DOCS))
    return importlib.import_module("_generate")


@pytest.fixture(scope="session")
def reference(generator: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reference") / "reference"
    generator.write_reference(folder)
    return folder
