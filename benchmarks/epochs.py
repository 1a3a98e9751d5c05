"""The second epoch against the first, where decoding dominates: photos, sounds and clips from files."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import soundfile
from PIL import Image

from benchmarks.frame_sampling import film
from benchmarks.measure import interleaved
from benchmarks.record import Record
from polymodal.data.table.cell_errors import CellErrors
from polymodal.data.table.table import Table, open_table
from polymodal.experiments.plan import make_plan
from polymodal.preparation.preparation import Preparation, PreparedTable
from polymodal.recipe.recipe import Recipe

BATCH = 32
RECIPE: dict[str, Any] = {
    "inputs": {
        "photo": {"modality": {"name": "image", "image_size": 128}},
        "sound": {"modality": {"name": "audio", "seconds": 5.0}},
        "clip": {"modality": {"name": "video", "num_frames": 8, "image_size": 64}},
    }
}


def run(smallest: bool) -> Record:
    """Seconds from the start of an epoch to its last batch, each batch ready for the network."""
    rows, frames = (4, 50) if smallest else (48, 150)
    record = Record(
        name="epochs",
        title="Batches of an epoch: photos, sounds and clips from files",
        method=(
            f"{rows} rows of a photo (1600 x 1200, JPEG), a sound (5 s, 44.1 kHz, FLAC), a clip (320 x 240, {frames} "
            f"frames, H.264), in batches of {BATCH}, with the random changes of training. The first epoch decodes into "
            "an empty store, the second reads it; a second run of the same data prepares from the store. The network's "
            "own work is left out."
        ),
        unit="s",
        larger_is_better=False,
    )
    with TemporaryDirectory() as name:
        place = Path(name)
        table = open_table(files(place / "data", rows, frames), root=place / "data", cache=place / "tables")
        preparation = Preparation(make_plan(table, Recipe(**RECIPE), ["target"]).recipe)
        preparation.fit(table, np.arange(rows))
        counter = iter(range(1_000_000))

        def first() -> float:
            store = place / f"store{next(counter)}"
            return timed(lambda: epoch(preparation, prepared(preparation, table, store)))

        warm = place / "warm"
        kept = prepared(preparation, table, warm)
        contestants: dict[str, Callable[[], float]] = {
            "second epoch": lambda: timed(lambda: epoch(preparation, kept)),
            "first epoch of a second run": lambda: timed(
                lambda: epoch(preparation, prepared(preparation, table, warm))
            ),
            "first epoch": first,
        }
        interleaved(record, contestants, 1 if smallest else 5)
    record.compare("second epoch", "first epoch", None if smallest else 20)
    record.compare("first epoch of a second run", "first epoch")
    return record


def files(folder: Path, rows: int, frames: int) -> dict[str, list[Any]]:
    """The table of files, written into `folder`."""
    folder.mkdir()
    draw = np.random.default_rng(0)
    columns: dict[str, list[Any]] = {"photo": [], "sound": [], "clip": [], "target": []}
    y, x = np.mgrid[:1200, :1600].astype(np.float32)
    for row in range(rows):
        waves = [np.sin(x / draw.uniform(20, 90)) + np.cos(y / draw.uniform(20, 90)) for _ in range(3)]
        noisy = 127 + 50 * np.stack(waves, -1) + draw.normal(0, 6, (1200, 1600, 1)).astype(np.float32)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / f"{row}.jpg", quality=90)
        soundfile.write(folder / f"{row}.flac", draw.normal(0, 0.1, 5 * 44_100), 44_100)
        (folder / f"{row}.mp4").write_bytes(film(row, frames))
        for name, ending in (("photo", "jpg"), ("sound", "flac"), ("clip", "mp4")):
            columns[name].append(f"{row}.{ending}")
        columns["target"].append("even" if row % 2 else "odd")
    return columns


def prepared(preparation: Preparation, table: Table, store: Path) -> PreparedTable:
    faults = CellErrors()
    made = preparation.prepare(table, faults, folder=None, cache=store)
    if faults.errors:
        raise RuntimeError(faults.errors[0].reason)
    return made


def epoch(preparation: Preparation, table: PreparedTable) -> None:
    for start in range(0, table.rows, BATCH):
        preparation.batch(table, np.arange(start, min(start + BATCH, table.rows)), augment=True)


def timed(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
