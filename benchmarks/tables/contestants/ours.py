"""Polymodal, through its public functions only. The types of the columns are inferred."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from polymodal import fit  # imports torch before the clock of the work starts


def run(job: SimpleNamespace):
    settings = [f"seed={job.seed}", "data.split.test_size=0", *job.settings]
    model = fit(job.train, job.target, settings=settings, root=job.root)
    answer = np.asarray(model.predict_proba(job.test, root=job.root))
    return answer.reshape(-1) if job.task == "regression" else (model.classes, answer)
