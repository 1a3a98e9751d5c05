"""Logistic or ridge regression on scaled numbers and one-hot categories; the penalty is cross-validated."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from scripts.frames import tabular
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler


def run(job: SimpleNamespace):
    train, test = tabular(job)
    target = job.train[job.target]
    columns = make_column_transformer(
        (
            make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler()),
            make_column_selector(dtype_include="number"),
        ),
        (OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_include="category")),
    )
    if job.task == "regression":
        return make_pipeline(columns, RidgeCV(np.logspace(-3, 3, 13))).fit(train, target).predict(test)
    search = GridSearchCV(LogisticRegression(max_iter=2000), {"C": [0.01, 0.1, 1, 10]}, scoring="neg_log_loss", cv=5)
    model = make_pipeline(columns, search).fit(train, target)
    return model.classes_, model.predict_proba(test)
