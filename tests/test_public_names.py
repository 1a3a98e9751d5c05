"""The public names are what they say, whatever has been imported before."""

from __future__ import annotations

import importlib
import subprocess
import sys
from types import ModuleType

import polymodal


def test_a_public_name_is_never_the_module_of_the_same_name() -> None:
    for _ in range(2):
        for name in polymodal.__all__:
            assert not isinstance(getattr(polymodal, name), ModuleType), name
    for name in ("fit", "ensemble"):
        module = importlib.import_module(polymodal._PUBLIC[name])
        assert isinstance(module, ModuleType)
        assert getattr(polymodal, name) is getattr(module, name)


def test_the_order_of_imports_does_not_matter() -> None:
    """In a fresh interpreter: modules first, then the names that they share."""
    code = (
        "import polymodal.workflows.fit, polymodal.model.ensemble, polymodal.model.loading, polymodal\n"
        "from polymodal import fit, ensemble\n"
        "assert callable(fit) and callable(ensemble) and callable(polymodal.fit), (fit, ensemble)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
