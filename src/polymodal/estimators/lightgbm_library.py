"""The library LightGBM, imported when boosted trees are first used."""

from __future__ import annotations

import importlib
from types import ModuleType

from polymodal.core.errors import PolymodalError


def load_lightgbm() -> ModuleType:
    """The module `lightgbm`.

    Raises:
        PolymodalError: it needs the OpenMP library of the system, which is not installed.
    """
    try:
        return importlib.import_module("lightgbm")
    except OSError as error:
        raise PolymodalError(
            f"boosted trees need the OpenMP library of the system ({error}): apt-get install libgomp1 on Debian and "
            "Ubuntu, dnf install libgomp on Fedora, brew install libomp on macOS"
        ) from error
