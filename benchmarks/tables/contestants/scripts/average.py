"""Several kinds of columns: the mean of a linear model on all of them and of boosted trees, or of models for each kind.

Sounds are left out: where most rows have none, they help no average.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from scripts import joint, pictures, stacked, tfidf
from scripts.frames import of_types


def run(job: SimpleNamespace):
    is_tabular = bool(of_types(job, "number", "category", "date"))
    members = [joint, stacked] if is_tabular else [joint, tfidf, pictures]
    answers = [member.run(job) for member in members]
    if job.task == "regression":
        return np.mean(answers, axis=0)
    return answers[0][0], np.mean([probabilities for _, probabilities in answers], axis=0)
