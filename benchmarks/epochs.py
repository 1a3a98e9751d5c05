"""The second epoch against the first, with costly decoding: photos, audio and video from files."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import soundfile
from PIL import Image

from benchmarks.frame_sampling import make_video
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
        "audio": {"modality": {"name": "audio", "seconds": 5.0}},
        "video": {"modality": {"name": "video", "num_frames": 8, "image_size": 64}},
    }
}


def run(smallest: bool) -> Record:
    """Seconds from the start of an epoch to its last batch, each batch ready for the network."""
    rows, frames = (4, 50) if smallest else (48, 150)
    record = Record(
        name="epochs",
        title="Batches of an epoch: photos, audio and video from files",
        method=(
            f"{rows} rows of a photo (1600 x 1200, JPEG), audio (5 s, 44.1 kHz, FLAC) and video (320 x 240, {frames} "
            f"frames, H.264), in batches of {BATCH}, with the augmentation of training. The first epoch decodes into "
            "an empty store, the second reads it; a second run with the same data prepares from the store. The work of "
            "the network is not included."
        ),
        unit="s",
        larger_is_better=False,
    )
    with TemporaryDirectory() as name:
        work_folder = Path(name)
        table = open_table(
            files(work_folder / "data", rows, frames), root=work_folder / "data", cache=work_folder / "tables"
        )
        preparation = Preparation(make_plan(table, Recipe(**RECIPE), ["target"]).recipe)
        preparation.fit(table, np.arange(rows))
        counter = iter(range(1_000_000))

        def first() -> float:
            store = work_folder / f"store{next(counter)}"
            return timed(lambda: epoch(preparation, prepared(preparation, table, store)))

        warm = work_folder / "warm"
        warm_table = prepared(preparation, table, warm)
        contestants: dict[str, Callable[[], float]] = {
            "second epoch": lambda: timed(lambda: epoch(preparation, warm_table)),
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
    columns: dict[str, list[Any]] = {"photo": [], "audio": [], "video": [], "target": []}
    y, x = np.mgrid[:1200, :1600].astype(np.float32)
    for row in range(rows):
        waves = [np.sin(x / draw.uniform(20, 90)) + np.cos(y / draw.uniform(20, 90)) for _ in range(3)]
        noisy = 127 + 50 * np.stack(waves, -1) + draw.normal(0, 6, (1200, 1600, 1)).astype(np.float32)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / f"{row}.jpg", quality=90)
        soundfile.write(folder / f"{row}.flac", draw.normal(0, 0.1, 5 * 44_100), 44_100)
        (folder / f"{row}.mp4").write_bytes(make_video(row, frames))
        for name, ending in (("photo", "jpg"), ("audio", "flac"), ("video", "mp4")):
            columns[name].append(f"{row}.{ending}")
        columns["target"].append("even" if row % 2 else "odd")
    return columns


def prepared(preparation: Preparation, table: Table, store: Path) -> PreparedTable:
    errors = CellErrors()
    made = preparation.prepare(table, errors, folder=None, cache=store)
    if errors.errors:
        raise RuntimeError(errors.errors[0].reason)
    return made


def epoch(preparation: Preparation, table: PreparedTable) -> None:
    for start in range(0, table.rows, BATCH):
        preparation.batch(table, np.arange(start, min(start + BATCH, table.rows)), augment=True)


def timed(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
