"""Gemma 3 270M with adapters writes captions of stamps: trained, saved, read with nothing but its folder, asked again.

python -m benchmarks.caption_gemma FOLDER      # FOLDER: an unpacked package of stamps, or where to unpack it
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path
from typing import Any

from benchmarks.record import Record, run_study
from benchmarks.stamps import fetch, table
from polymodal.core.paths import cache_folder
from polymodal.workflows.fit import fit

EPOCHS, ASKED, TESTED = 2, 16, 100
#: In a new process: no cache to find a checkpoint in, no network.
AGAIN = """
import json, socket, sys
def refused(*arguments, **named):
    raise AssertionError("the network was asked for")
socket.create_connection = socket.getaddrinfo = refused
from polymodal.model.model import Model
print(json.dumps(Model.load(sys.argv[1]).predict({"image": json.loads(sys.argv[2])}, root=sys.argv[3])))
"""


def run(folder: Path) -> Record:
    """Train on all but a hundred stamps, whose captions no training row has, and compare before and after saving.

    Raises:
        RuntimeError: the model that was read again wrote something else.
    """
    stamps = fetch(folder)
    columns = table(stamps)
    rows = list(zip(columns["picture"], columns["caption"], strict=True))
    order = sorted(range(len(rows)), key=lambda row: zlib.crc32(rows[row][1].encode()))
    tested = {rows[row][1] for row in order[:TESTED]}
    parts = {name: [row for row in rows if (row[1] in tested) == (name == "test")] for name in ("train", "test")}
    tables: dict[str, dict[str, Any]] = {
        name: {"image": [row[0] for row in part], "caption": [row[1] for row in part]} for name, part in parts.items()
    }
    record = Record(
        name="caption_gemma",
        title="Captions of stamps by Gemma 3 270M with adapters, over frozen EfficientNet-lite0 features",
        method=f"The recipe caption_language_model, {EPOCHS} epochs on {len(parts['train'])} stamps; scores on "
        f"{len(parts['test'])} whose captions are in no training row. CIDEr-D counts how telling an n-gram is over the "
        "scored captions.",
        unit="score",
        larger_is_better=True,
    )
    with tempfile.TemporaryDirectory() as place:
        start = time.perf_counter()
        settings = [
            f"training.epochs={EPOCHS}",
            "outputs.caption.task.max_target_length=24",
            "evaluation.bootstrap_samples=200",
        ]
        model = fit(
            tables["train"],
            recipe="caption_language_model",
            settings=settings,
            test=tables["test"],
            root=stamps,
            out=Path(place) / "model",
            progress=True,
        )
        record.facts["seconds of fit, scores included"] = round(time.perf_counter() - start)
        for name, score in model.metrics["test"]["caption"].items():
            if isinstance(score.get("value"), float):
                record.values[name] = [score["value"]]
                record.facts[name] = {key: score.get(key) for key in ("low", "high", "baseline")}
        asked = tables["test"]["image"][:ASKED]
        written = model.predict({"image": asked}, root=stamps)
        again = subprocess.run(
            [sys.executable, "-c", AGAIN, str(Path(place) / "model"), json.dumps(asked), str(stamps)],
            env={**os.environ, "POLYMODAL_CACHE": str(Path(place) / "empty"), "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
            check=True,
        )
        if json.loads(again.stdout.splitlines()[-1]) != written:
            raise RuntimeError(f"the saved model wrote something else: {again.stdout}")
        alone = [model.predict({"image": [one]}, root=stamps)[0] for one in asked[:8]]
    record.facts["equal after saving and loading offline"] = f"{ASKED} of {ASKED}"
    same = sum(one == other for one, other in zip(alone, written, strict=False))
    record.facts["equal alone and in a batch"] = f"{same} of 8, in {model.compute.precision}"
    truth = tables["test"]["caption"]
    record.facts["written (true)"] = [f"{one} ({true})" for one, true in zip(written[:6], truth, strict=False)]
    return record


if __name__ == "__main__":
    cache_folder().mkdir(parents=True, exist_ok=True)
    run_study(run, Path(sys.argv[1]))
