"""Kill commands at random moments: what was there before stays whole, and the rerun equals an undisturbed run.

`python -m benchmarks.kills --kills 100 --seed 0` writes a record. Each trial starts from the same folder, kills the
process with SIGKILL at a random moment, checks what is there, and runs the command again.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image

import polymodal
import polymodal.model.loading
import polymodal.report.card
import polymodal.report.report
import polymodal.tuning.tune
import polymodal.workflows.fit  # all before the processes are forked
from benchmarks.record import RECORDS, Record, run_study
from polymodal.applications.search import Index
from polymodal.datasets.planted import make_exclusive_or

KILLS = 100
SETTINGS = ["hidden_size=8", "training.epochs=4", "training.batch_size=16", "training.save_steps=3"]
SETTINGS += ["training.precision=fp32", "training.num_threads=1"]
SETTINGS += ["evaluation.bootstrap_samples=20", "evaluation.unimodal_scores=none"]
RECIPE: dict[str, Any] = {
    "inputs": {side: {"columns": [f"{side}{i}" for i in range(4)], "modality": "number"} for side in "ab"},
    "outputs": {"target": "classification"},
}
PRECIOUS = "a file of the user"
IMAGE, VIT = {"name": "image", "image_size": 32}, {"name": "vit", "patch_size": 16, "num_layers": 1}
PICTURES = [f"pictures/{number}.png" for number in range(48)]


@dataclass(frozen=True)
class Operation:
    """A command to kill.

    prepare: makes what is there before, in a folder
    run: the command in a folder; its second argument: whether it is the rerun
    result: a hash of the result
    keeps_old: there is an output before, and a killed command must leave it, or the new one
    """

    prepare: Callable[[Path], None]
    run: Callable[[Path, bool], None]
    result: Callable[[Path], str]
    keeps_old: bool = True


def rows(seed: int) -> dict[str, Any]:
    return make_exclusive_or(96, seed)


def fit(folder: Path, seed: int, **options: Any) -> None:
    polymodal.fit(rows(0), recipe=RECIPE, settings=[*SETTINGS, f"seed={seed}"], out=folder / "model", **options)


def old_model(folder: Path) -> None:
    fit(folder, 1)


def write_pictures(folder: Path) -> None:
    """Dark and light pictures, in files."""
    draw = np.random.default_rng(0)
    (folder / "pictures").mkdir()
    for number, name in enumerate(PICTURES):
        pixels = np.clip(draw.normal(60 + 120 * (number % 2), 40, (24, 24, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / name)


def fit_pictures(folder: Path, again: bool) -> None:
    os.environ["POLYMODAL_CACHE"] = str(folder / "cache")
    recipe = {"inputs": {"picture": {"modality": IMAGE, "encoder": VIT}}}
    polymodal.fit(
        {"picture": PICTURES, "kind": ["dark", "light"] * 24},
        "kind",
        recipe=recipe,
        settings=SETTINGS,
        root=folder,
        out=folder / "model",
        resume=again,
    )


def tune(folder: Path, again: bool) -> None:
    polymodal.tune(
        rows(0),
        recipe=RECIPE,
        settings=SETTINGS,
        space={"fusion": ["concat", "late"]},
        folds=2,
        trials=2,
        time_limit=None,
        out=folder / "search",
        resume=again and (folder / "search" / "search.json").is_file(),
    )


def vectors(seed: int, count: int = 400) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 16)).astype(np.float32)


def change_index(folder: Path, again: bool) -> None:
    """Changes of an index, each of which is done at most once."""
    index = Index.open(folder / "index")
    while index.manifest.next_id < 600:  # additions of 20 rows
        number = index.manifest.next_id
        index.add(vectors(number, 20), {"name": [f"row {number}"] * 20})
    if 3 in index.ids:
        index.delete(list(range(200)))
    if index.manifest.deleted is not None:
        index.compact()


def build_index(folder: Path, again: bool) -> None:
    Index.build(folder / "index", vectors(1, 2_000), {"name": ["new"] * 2_000}, overwrite=True)


def save(folder: Path, again: bool) -> None:
    polymodal.load(folder / "other").save(folder / "model", overwrite=True)


def prepare_save(folder: Path) -> None:
    fit(folder, 0)
    (folder / "model").rename(folder / "other")
    fit(folder, 1)


def prepare_index(folder: Path) -> None:
    Index.build(folder / "index", vectors(0), {"name": ["old"] * 400})


def hash_files(*paths: Path) -> str:
    """A hash of files; those that do not exist count as empty."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes() if path.is_file() else b"")
    return digest.hexdigest()


def model_hash(folder: Path) -> str:
    """A hash of a model, which is loaded and checked."""
    polymodal.load(folder)
    return hash_files(*(folder / name for name in ("model.safetensors", "preparation.json", "recipe.yaml")))


def search_hash(folder: Path) -> str:
    """A hash of the best model, the predictions of each trial, and the ensemble. A trial that was killed is repeated
    under the next number, so the numbers do not count."""
    trials = sorted(hash_files(path) for path in (folder / "search" / "trials").glob("*.npy"))
    ensemble = sorted((folder / "search" / "ensemble").rglob("*.safetensors"))
    return "".join([model_hash(folder / "search" / "best"), hash_files(*ensemble), *trials])


def index_hash(folder: Path) -> str:
    index = Index.open(folder / "index")
    digest = hashlib.sha256(index.ids.tobytes() + index.vectors(index.ids).tobytes())
    digest.update(repr(index.take(index.ids).to_pylist()).encode())
    return digest.hexdigest()


def no_output(folder: Path) -> None:
    """There is nothing before."""


def resumed_overwrite(folder: Path, again: bool) -> None:
    """Continue the run that was to replace the model; if it had not begun, or had ended, start it again."""
    if again and (folder / "model.part" / "checkpoint.safetensors").is_file():
        fit(folder, 0, resume=True)
    else:
        fit(folder, 0, overwrite=True)


def saved(folder: Path) -> str:
    return model_hash(folder / "model")


OPERATIONS = {
    "fit": Operation(no_output, lambda folder, again: fit(folder, 0, resume=again), saved, False),
    "fit --overwrite": Operation(old_model, lambda folder, again: fit(folder, 0, overwrite=True), saved),
    "fit --overwrite, then --resume": Operation(old_model, resumed_overwrite, saved),
    "caching": Operation(write_pictures, fit_pictures, saved, False),
    "save over a model": Operation(prepare_save, save, saved),
    "change an index": Operation(prepare_index, change_index, index_hash, False),
    "index --overwrite": Operation(prepare_index, build_index, index_hash),
    "tune": Operation(no_output, tune, search_hash, False),
}


def in_child(work: Callable[[], None], kill_after: float | None = None) -> float:
    """Run `work` in a child process, which is killed after some seconds; the seconds that it ran.

    Raises:
        RuntimeError: it failed.
    """
    start = time.perf_counter()
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        finally:
            traceback.print_exc()
            os._exit(1)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if kill_after is None and status != 0:
        raise RuntimeError(f"the command ended with status {status}")
    return time.perf_counter() - start


def hash_in_child(work: Callable[[], str], folder: Path) -> str:
    """The result of `work` in a child process."""

    def write() -> None:
        (folder / "hash").write_text(work())

    in_child(write)
    return (folder / "hash").read_text()


@dataclass
class Prepared:
    """What is there before an operation, the hash of its output, and the result and seconds of an undisturbed run."""

    folder: Path
    before: str
    after: str
    seconds: float


def prepare(operation: Operation, place: Path) -> Prepared:
    """Make what is there before, and run the operation undisturbed in a copy."""
    first, undisturbed = place / "first", place / "work"
    first.mkdir(parents=True)
    in_child(lambda: operation.prepare(first))
    (place / "cache").mkdir(exist_ok=True)
    (first / "mine.txt").write_text(PRECIOUS)
    before = hash_in_child(lambda: operation.result(first), place) if operation.keeps_old else ""
    shutil.copytree(first, undisturbed)
    seconds = in_child(lambda: operation.run(undisturbed, False))
    after = hash_in_child(lambda: operation.result(undisturbed), place)
    shutil.rmtree(undisturbed)
    return Prepared(first, before, after, seconds)


def trial(operation: Operation, prepared: Prepared, moment: float, place: Path) -> str:
    """Kill the operation at `moment` (a fraction of its time), check what is left, and run it again.

    Returns what the kill left: `old`, `new`, or `unfinished`.

    Raises:
        AssertionError: something was lost, or the rerun differs.
    """
    work = place / "work"  # the same path in every trial: the paths in a recipe are a part of it
    shutil.copytree(prepared.folder, work)
    in_child(lambda: operation.run(work, False), kill_after=moment * prepared.seconds)
    left = "unfinished"
    if operation.keeps_old:
        found = hash_in_child(lambda: operation.result(work), place)
        assert found in (prepared.before, prepared.after), "the output is neither the old nor the new one"
        left = "old" if found == prepared.before else "new"
    in_child(lambda: operation.run(work, True))
    assert hash_in_child(lambda: operation.result(work), place) == prepared.after, "the rerun differs"
    assert (work / "mine.txt").read_text() == PRECIOUS
    stray = [path.name for path in work.iterdir() if path.name.endswith((".part", ".old"))]
    assert not stray, f"{stray} are left"
    shutil.rmtree(work)
    return left


def measure(kills: int, seed: int, names: Sequence[str] = tuple(OPERATIONS), minutes: float = 60.0) -> Record:
    torch.set_num_threads(1)
    draw = random.Random(seed)
    left: dict[str, Counter[str]] = {name: Counter() for name in names}
    prepared: dict[str, Prepared] = {}
    start = time.perf_counter()
    with TemporaryDirectory() as folder:
        for number in range(kills):
            if time.perf_counter() - start > 60 * minutes:
                break
            name = names[number % len(names)]
            operation, place = OPERATIONS[name], Path(folder).resolve() / name.replace(" ", "_")
            os.environ["POLYMODAL_CACHE"] = str(place / "cache")
            if name not in prepared:
                prepared[name] = prepare(operation, place)
            found = trial(operation, prepared[name], draw.random(), place)
            left[name][found] += 1
            print(f"{number + 1}: {name}, {found}", file=sys.stderr, flush=True)
    return Record(
        "kills",
        "Commands killed at random moments",
        "Each command runs once undisturbed. Then it is started from the same folder, killed with SIGKILL at a moment "
        "drawn uniformly from its time, and run again (`fit` and `tune` with resume). After a kill, a model or index "
        "that is being replaced must be the old or the new one, whole, and the user's file must be there. The rerun "
        "must equal the undisturbed run to the bit.",
        "s",
        False,
        {name: [one.seconds] for name, one in prepared.items()},
        facts={
            "kills": sum(sum(found.values()) for found in left.values()),
            "lost or different": 0,
            "what the kill left": {name: dict(found) for name, found in left.items() if found},
            "seed": seed,
            "seconds": time.perf_counter() - start,
        },
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument("--only", nargs="*", choices=OPERATIONS, default=list(OPERATIONS))
    parser.add_argument("--minutes", type=float, default=60.0, help="no kill begins later")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--records", type=Path, default=RECORDS)
    given = parser.parse_args()
    run_study(measure, given.kills, given.seed, given.only, given.minutes, folder=given.records)
