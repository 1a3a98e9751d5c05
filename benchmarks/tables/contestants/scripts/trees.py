"""Gradient-boosted trees on numbers, categories and the parts of dates."""

from __future__ import annotations

from types import SimpleNamespace

from scripts.frames import tabular
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

OPTIONS = {"learning_rate": 0.05, "max_iter": 300, "min_samples_leaf": 10, "categorical_features": "from_dtype"}


def run(job: SimpleNamespace):
    train, test = tabular(job)
    target = job.train[job.target]
    if job.task == "regression":
        model = HistGradientBoostingRegressor(**OPTIONS, random_state=job.seed).fit(train, target)
        return model.predict(test)
    # early stopping bounds the trees of sets with many classes, each of which has trees of its own
    model = HistGradientBoostingClassifier(**OPTIONS, early_stopping=True, random_state=job.seed).fit(train, target)
    return model.classes_, model.predict_proba(test)
