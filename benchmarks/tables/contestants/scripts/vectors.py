"""A support vector machine on scaled numbers and one-hot categories; its penalty is cross-validated."""

from __future__ import annotations

from types import SimpleNamespace

from scripts.frames import tabular
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor, make_column_selector, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC, SVR

PENALTIES = {"C": [0.1, 1, 10]}


def run(job: SimpleNamespace):
    train, test = tabular(job)
    target = job.train[job.target]
    columns = make_column_transformer(
        (
            make_pipeline(SimpleImputer(strategy="median"), StandardScaler()),
            make_column_selector(dtype_include="number"),
        ),
        (OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_include="category")),
    )
    if job.task == "regression":
        machine = TransformedTargetRegressor(GridSearchCV(SVR(), PENALTIES, cv=3), transformer=StandardScaler())
        return make_pipeline(columns, machine).fit(train, target).predict(test)
    search = GridSearchCV(SVC(), PENALTIES, cv=3)
    model = CalibratedClassifierCV(make_pipeline(columns, search), ensemble=False, cv=3).fit(train, target)
    return model.classes_, model.predict_proba(test)
