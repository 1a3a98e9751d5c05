"""Polymodal: train multimodal models on tables of text, images, audio, video, time series, numbers and categories."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from polymodal._version import __version__

# Idle threads sleep instead of spinning. On a busy machine, two spinning threads are many times slower than one.
# OpenMP reads this variable when torch is imported, so it must be set before.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


if TYPE_CHECKING:
    from polymodal.applications.active_learning.suggest import suggest
    from polymodal.applications.batch_prediction.predict_shards import predict_shards
    from polymodal.applications.batch_preparation.prepare import prepare
    from polymodal.applications.few_shot.few_shot import FewShot
    from polymodal.applications.few_shot.zero_shot import ZeroShot
    from polymodal.model.ensemble import Ensemble, ensemble
    from polymodal.model.loading import load
    from polymodal.model.model import Model
    from polymodal.recipe.recipe import Recipe
    from polymodal.tuning.tune import tune
    from polymodal.tuning.tune_worker import tune_worker
    from polymodal.workflows.cross_validation import cross_validate
    from polymodal.workflows.fit import fit, pretrain
    from polymodal.workflows.model_comparison import compare
    from polymodal.workflows.multitask_gain import multitask_gain
    from polymodal.workflows.sklearn import PolymodalClassifier, PolymodalRegressor

# The public names and their modules. A module is imported when one of its names is first used.
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
    "multitask_gain": "polymodal.workflows.multitask_gain",
    "predict_shards": "polymodal.applications.batch_prediction.predict_shards",
    "prepare": "polymodal.applications.batch_preparation.prepare",
    "pretrain": "polymodal.workflows.fit",
    "suggest": "polymodal.applications.active_learning.suggest",
    "tune": "polymodal.tuning.tune",
    "tune_worker": "polymodal.tuning.tune_worker",
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
    "multitask_gain",
    "predict_shards",
    "prepare",
    "pretrain",
    "suggest",
    "tune",
    "tune_worker",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'polymodal' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return __all__
