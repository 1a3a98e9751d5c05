"""Polymodal: a table of mixed media in, a multimodal model out."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from polymodal._version import __version__

# Waiting threads sleep instead of spinning: on a busy machine two threads are otherwise many times slower than one.
# Only heeded if it is set before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


if TYPE_CHECKING:
    from polymodal.applications.active_learning.suggest import suggest
    from polymodal.applications.few_shot.few_shot import FewShot
    from polymodal.applications.few_shot.zero_shot import ZeroShot
    from polymodal.model.ensemble import Ensemble, ensemble
    from polymodal.model.loading import load
    from polymodal.model.model import Model
    from polymodal.recipe.recipe import Recipe
    from polymodal.tuning.tune import tune
    from polymodal.workflows.cross_validation import cross_validate
    from polymodal.workflows.fit import fit, pretrain
    from polymodal.workflows.model_comparison import compare
    from polymodal.workflows.multitask_gain import sharing
    from polymodal.workflows.sklearn import PolymodalClassifier, PolymodalRegressor

# The public names and where they live: each module is imported when one of its names is first used.
_PUBLIC = {
    "Ensemble": "polymodal.model.ensemble",
    "FewShot": "polymodal.applications.few_shot.few_shot",
    "Model": "polymodal.model.model",
    "PolymodalClassifier": "polymodal.workflows.sklearn",
    "PolymodalRegressor": "polymodal.workflows.sklearn",
    "Recipe": "polymodal.recipe.recipe",
    "ZeroShot": "polymodal.applications.few_shot.zero_shot",
    "compare": "polymodal.workflows.model_comparison",
    "cross_validate": "polymodal.workflows.cross_validation",
    "ensemble": "polymodal.model.ensemble",
    "fit": "polymodal.workflows.fit",
    "load": "polymodal.model.loading",
    "pretrain": "polymodal.workflows.fit",
    "sharing": "polymodal.workflows.multitask_gain",
    "suggest": "polymodal.applications.active_learning.suggest",
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
