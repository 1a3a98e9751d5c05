"""Means, deviations and extremes of log-mel bands, and a support vector machine."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import soundfile
from scipy.signal import resample_poly, stft
from scripts.frames import of_types
from sklearn.calibration import CalibratedClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

RATE, WINDOW, BANDS, SECONDS = 16000, 512, 40, 10


def mel_filters() -> np.ndarray:
    """Triangles `[bands, frequencies]` of equal width on the mel scale."""
    mel = np.linspace(0, 2595 * np.log10(1 + RATE / 2 / 700), BANDS + 2)
    edges = 700 * (10 ** (mel / 2595) - 1)
    bins = np.linspace(0, RATE / 2, WINDOW // 2 + 1)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return np.maximum(0, np.minimum(rising, falling))


def statistics(path: Path, filters: np.ndarray) -> np.ndarray:
    """Statistics `[bands * 5]` of the log-mel spectrogram of the first ten seconds, and of its steps in time."""
    with soundfile.SoundFile(path) as file:
        samples, rate = file.read(SECONDS * file.samplerate, always_2d=True).mean(1), file.samplerate
    samples = resample_poly(samples, RATE, rate) if rate != RATE else samples
    samples = np.pad(samples, (0, max(0, 2 * WINDOW - len(samples))))
    _, _, spectrum = stft(samples, RATE, nperseg=WINDOW, noverlap=WINDOW // 2)
    bands = np.log(filters @ np.abs(spectrum) ** 2 + 1e-10)
    steps = np.diff(bands, axis=1)
    return np.concatenate([bands.mean(1), bands.std(1), bands.min(1), bands.max(1), steps.std(1)])


def run(job: SimpleNamespace):
    (name,) = of_types(job, "sound")
    filters = mel_filters()
    train, test = (
        np.stack([statistics(Path(job.root) / cell, filters) for cell in part[name]]) for part in (job.train, job.test)
    )
    machine = make_pipeline(StandardScaler(), SVC(C=10))
    model = CalibratedClassifierCV(machine, ensemble=False, cv=3).fit(train, job.train[job.target])
    return model.classes_, model.predict_proba(test)
