"""MiniRocket (Dempster, Schmidt and Webb, 2021) of aeon, and ridge regression on its features."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from aeon.transformations.collection.convolution_based import MiniRocket
from scripts.frames import of_types
from sklearn.linear_model import RidgeClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def run(job: SimpleNamespace):
    (name,) = of_types(job, "series")
    train, test = (np.array(part[name], dtype=np.float32) for part in (job.train, job.test))
    head = make_pipeline(StandardScaler(with_mean=False), RidgeClassifierCV(np.logspace(-3, 3, 10)))
    model = make_pipeline(MiniRocket(random_state=job.seed), head)
    return model.fit(train, np.array(job.train[job.target])).predict(test)
