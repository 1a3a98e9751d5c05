"""AutoGluon's tabular ensemble, with its features of dates and n-grams of texts. It does not read media here."""

from __future__ import annotations

import tempfile
from types import SimpleNamespace

import pandas as pd
from autogluon.tabular import TabularPredictor
from scripts.frames import of_types

TIME_LIMIT = 120


def run(job: SimpleNamespace):
    names = of_types(job, "number", "category", "date", "text")
    train, test = (pd.DataFrame({name: part[name] for name in names}) for part in (job.train, job.test))
    problem = "regression" if job.task == "regression" else None
    with tempfile.TemporaryDirectory() as folder:
        model = TabularPredictor(job.target, problem_type=problem, path=folder, verbosity=0)
        model.fit(train.assign(**{job.target: job.train[job.target]}), time_limit=TIME_LIMIT, num_cpus=1, num_gpus=0)
        if job.task == "regression":
            return model.predict(test).to_numpy()
        probabilities = model.predict_proba(test)
    return list(probabilities.columns), probabilities.to_numpy()
