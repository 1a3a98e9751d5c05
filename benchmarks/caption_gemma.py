"""Captions of stamps by Gemma 3 270M with adapters: trained, saved, loaded from its folder only, and compared.

python -m benchmarks.caption_gemma FOLDER      # FOLDER: an unpacked package of stamps, or where to unpack one
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

EPOCHS, COMPARED, TEST_CAPTIONS = 2, 16, 100
#: Runs in a new process, without a cache that has the checkpoint and without network access.
PREDICT_OFFLINE = """
import json, socket, sys
def refused(*arguments, **named):
    raise AssertionError("the network was used")
socket.create_connection = socket.getaddrinfo = refused
from polymodal.model.model import Model
print(json.dumps(Model.load(sys.argv[1]).predict({"image": json.loads(sys.argv[2])}, root=sys.argv[3])))
"""


def run(folder: Path) -> Record:
    """Train on all stamps but those of a hundred captions, and compare the predictions before and after saving.

    Raises:
        RuntimeError: the loaded model generated other texts.
    """
    stamps = fetch(folder)
    columns = table(stamps)
    rows = list(zip(columns["picture"], columns["caption"], strict=True))
    order = sorted(range(len(rows)), key=lambda row: zlib.crc32(rows[row][1].encode()))
    tested = {rows[row][1] for row in order[:TEST_CAPTIONS]}
    parts = {name: [row for row in rows if (row[1] in tested) == (name == "test")] for name in ("train", "test")}
    tables: dict[str, dict[str, Any]] = {
        name: {"image": [row[0] for row in part], "caption": [row[1] for row in part]} for name, part in parts.items()
    }
    record = Record(
        name="caption_gemma",
        title="Captions of stamps by Gemma 3 270M with adapters, over frozen EfficientNet-lite0 features",
        method=f"The recipe caption_language_model, {EPOCHS} epochs on {len(parts['train'])} stamps; scores on "
        f"{len(parts['test'])} stamps whose captions are in no training row. CIDEr-D weights n-grams by "
        "inverse frequency in the scored captions.",
        unit="score",
        larger_is_better=True,
    )
    with tempfile.TemporaryDirectory() as work_folder:
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
            out=Path(work_folder) / "model",
            progress=True,
        )
        record.facts["seconds of fit, with scores"] = round(time.perf_counter() - start)
        for name, score in model.metrics["test"]["caption"].items():
            if isinstance(score.get("value"), float):
                record.values[name] = [score["value"]]
                record.facts[name] = {key: score.get(key) for key in ("low", "high", "baseline")}
        images = tables["test"]["image"][:COMPARED]
        generated = model.predict({"image": images}, root=stamps)
        loaded = subprocess.run(
            [sys.executable, "-c", PREDICT_OFFLINE, str(Path(work_folder) / "model"), json.dumps(images), str(stamps)],
            env={**os.environ, "POLYMODAL_CACHE": str(Path(work_folder) / "empty"), "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
            check=True,
        )
        if json.loads(loaded.stdout.splitlines()[-1]) != generated:
            raise RuntimeError(f"the saved model generated other texts: {loaded.stdout}")
        one_by_one = [model.predict({"image": [one]}, root=stamps)[0] for one in images[:8]]
    record.facts["equal after saving and loading offline"] = f"{COMPARED} of {COMPARED}"
    same = sum(one == other for one, other in zip(one_by_one, generated, strict=False))
    record.facts["equal one by one and in a batch"] = f"{same} of 8, in {model.compute.precision}"
    truth = tables["test"]["caption"]
    record.facts["generated (true)"] = [f"{one} ({true})" for one, true in zip(generated[:6], truth, strict=False)]
    return record


if __name__ == "__main__":
    cache_folder().mkdir(parents=True, exist_ok=True)
    run_study(run, Path(sys.argv[1]))
