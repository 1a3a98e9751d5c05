"""`skrub.tabular_pipeline`: one line for numbers, categories, dates and texts. It does not read media."""

from __future__ import annotations

from types import SimpleNamespace

import pandas as pd
from scripts.frames import of_types
from skrub import tabular_pipeline


def run(job: SimpleNamespace):
    names = of_types(job, "number", "category", "date", "text")
    train, test = (pd.DataFrame({name: part[name] for name in names}) for part in (job.train, job.test))
    model = tabular_pipeline("regressor" if job.task == "regression" else "classifier")
    model.fit(train, job.train[job.target])
    return model.predict(test) if job.task == "regression" else (model.classes_, model.predict_proba(test))
