"""Polymodal: a table of mixed media in, a multimodal model out."""

from __future__ import annotations

import os
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

# Waiting threads sleep instead of spinning: on a busy machine two threads are otherwise many times slower than one.
# Only heeded if it is set before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"

if TYPE_CHECKING:
    from polymodal.active.suggest import suggest
    from polymodal.comparison import compare
    from polymodal.crossvalidation import cross_validate
    from polymodal.ensemble import Ensemble, ensemble
    from polymodal.estimators import PolymodalClassifier, PolymodalRegressor
    from polymodal.few_shot.few_shot import FewShot
    from polymodal.fit import fit, pretrain
    from polymodal.loading import load
    from polymodal.model import Model
    from polymodal.recipe.recipe import Recipe
    from polymodal.sharing import sharing
    from polymodal.tuning.tune import tune
    from polymodal.zero_shot import ZeroShot

# The public names and where they live: each module is imported when one of its names is first used.
_PUBLIC = {
    "Ensemble": "polymodal.ensemble",
    "FewShot": "polymodal.few_shot.few_shot",
    "Model": "polymodal.model",
    "PolymodalClassifier": "polymodal.estimators",
    "PolymodalRegressor": "polymodal.estimators",
    "Recipe": "polymodal.recipe.recipe",
    "ZeroShot": "polymodal.zero_shot",
    "compare": "polymodal.comparison",
    "cross_validate": "polymodal.crossvalidation",
    "ensemble": "polymodal.ensemble",
    "fit": "polymodal.fit",
    "load": "polymodal.loading",
    "pretrain": "polymodal.fit",
    "sharing": "polymodal.sharing",
    "suggest": "polymodal.active.suggest",
    "tune": "polymodal.tuning.tune",
}

__all__ = [
    "Ensemble",
    "FewShot",
    "Model",
    "PolymodalClassifier",
    "PolymodalRegressor",
    "Recipe",
    "ZeroShot",
    "__version__",
    "compare",
    "cross_validate",
    "ensemble",
    "fit",
    "load",
    "pretrain",
    "sharing",
    "suggest",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"polymodal has no {name!r}")
    import importlib

    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return __all__


class _Package(ModuleType):
    """Importing a module puts it into its package under its name; here `fit` and `ensemble` stay the functions."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _PUBLIC and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
