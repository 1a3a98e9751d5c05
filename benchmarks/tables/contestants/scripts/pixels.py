"""The pixels of small gray images, and a support vector machine."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
from PIL import Image
from scripts.frames import of_types
from sklearn.calibration import CalibratedClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

SIZE = 16


def read(path: Path) -> np.ndarray:
    image = Image.open(path).convert("L")
    return np.asarray(image.resize((SIZE, SIZE)) if min(image.size) > SIZE else image, dtype=np.float32).ravel()


def run(job: SimpleNamespace):
    (name,) = of_types(job, "image")
    train, test = (np.stack([read(Path(job.root) / cell) for cell in part[name]]) for part in (job.train, job.test))
    machine = make_pipeline(StandardScaler(with_std=False), SVC(C=10))
    model = CalibratedClassifierCV(machine, ensemble=False, cv=3).fit(train, job.train[job.target])
    return model.classes_, model.predict_proba(test)
