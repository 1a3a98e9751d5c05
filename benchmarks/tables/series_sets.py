"""Sets of time series: problems of the UCR archive (Dau et al., "The UCR time series archive", 2019) in aeon.

Both official parts are one table, which is split like every other set.
"""

from __future__ import annotations

from functools import partial

from benchmarks.series_archive import read_ts
from benchmarks.tables.assets import asset
from benchmarks.tables.dataset import Columns, Dataset, Half


def archive(name: str) -> Columns:
    """Columns `series` (a list of channels, each a list of numbers) and `label`."""
    folder = asset("aeon") / "aeon/datasets/data" / name
    parts = [read_ts(folder / f"{name}_{part}.ts") for part in ("TRAIN", "TEST")]
    columns: Columns = {column: parts[0][column] + parts[1][column] for column in parts[0]}
    return columns | {"label": [f"class {label}" for label in columns["label"]]}


def _set(name: str, half: Half, seeds: int) -> Dataset:
    return Dataset(
        name.lower(),
        "series",
        half,
        "label",
        "accuracy",
        partial(archive, name),
        {"series": "series"},
        ("aeon",),
        seeds=seeds,
    )


SETS = (
    _set("GunPoint", "development", 5),
    _set("ItalyPowerDemand", "development", 5),
    _set("ACSF1", "final", 2),
    _set("OSULeaf", "final", 2),
)
