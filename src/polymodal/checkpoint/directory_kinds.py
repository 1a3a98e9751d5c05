"""The kinds of directories that commands write, and the names of their files.

A directory is recognized by its manifest, a JSON file with certain keys. Only files with a name of its kind are ever
deleted or replaced in it; every other file is foreign and belongs to the user.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from polymodal.core.writing import PART_PATTERN

#: The file in a directory that is being written, or was not completed (`write_lock`).
WRITING = "writing.json"


@dataclass(frozen=True)
class DirectoryKind:
    """A kind of output directory.

    name: as shown in messages
    manifest, keys: the JSON file of a directory of this kind, and keys that it holds
    files: patterns of the files, relative to the directory; `*` does not match `/`
    folders: names of the kinds of directories in it, by pattern
    resumable: one of these files makes a directory that was not completed worth keeping
    is_extended: a complete directory is changed in place (`tune --resume`)
    """

    name: str
    manifest: str
    keys: frozenset[str]
    files: tuple[str, ...]
    folders: Mapping[str, str] = field(default_factory=dict)
    resumable: tuple[str, ...] = ()
    is_extended: bool = False

    def owns(self, name: str) -> bool:
        """Whether the file `name`, relative to a directory of this kind and with `/`, is one that a command writes.

        Example:
            >>> MODEL.owns("preparation/input0/tokenizer.json"), MODEL.owns("notes.txt")
            (True, False)
        """
        if name == WRITING or fnmatchcase(name.rpartition("/")[2], PART_PATTERN):
            return True
        if any(_matches(name, pattern) for pattern in self.files):
            return True
        parts = name.split("/")
        for pattern, kind in self.folders.items():
            depth = pattern.count("/") + 1
            if _matches("/".join(parts[:depth]), pattern) and len(parts) > depth:
                return KINDS[kind].owns("/".join(parts[depth:]))
        return False


def _matches(name: str, pattern: str) -> bool:
    names, patterns = name.split("/"), pattern.split("/")
    return len(names) == len(patterns) and all(map(fnmatchcase, names, patterns))


MODEL = DirectoryKind(
    name="model directory",
    manifest="manifest.json",
    keys=frozenset({"format", "sha256"}),
    files=(
        *("manifest.json", "model.safetensors", "recipe.yaml", "preparation.json", "metrics.json", "run.json"),
        *("preparation/input*/tokenizer.json", "preparation/output*/tokenizer.json"),
        *("members.json", "members.safetensors", "members/*.txt", "calibration.safetensors"),
        *("README.md", "report.html", "cell_errors.jsonl", "compression.json", "robustness.json", "robustness.html"),
        *("log.jsonl", "checkpoint.safetensors", "tensorboard/events.out.tfevents.*"),
        *("checkpoint/step-*/*.safetensors", "checkpoint/step-*/facts.json"),
    ),
    folders={"teacher": "model", "round-*": "model", "fold-*": "model", "alternative": "model"},
    resumable=("checkpoint.safetensors", "checkpoint", "teacher/checkpoint.safetensors", "teacher/checkpoint"),
)
INDEX = DirectoryKind(
    name="search index",
    manifest="manifest.json",
    keys=frozenset({"kind", "generation", "segments"}),
    files=(
        *("manifest.json", "segment-*.vectors.npy", "segment-*.ids.npy", "segment-*.columns.arrow"),
        *("deleted-*.npy", "graph-*.usearch", "lock"),
    ),
    is_extended=True,
)
ENSEMBLE = DirectoryKind(
    name="model ensemble",
    manifest="ensemble.json",
    keys=frozenset({"method", "members"}),
    files=("ensemble.json", "combination.safetensors"),
    folders={"members/*": "model"},
)
FEW_SHOT = DirectoryKind(
    name="few-shot classifier",
    manifest="few_shot.json",
    keys=frozenset({"head", "manifest"}),
    files=("few_shot.json", "head.safetensors"),
    folders={"model": "model"},
)
SEARCH = DirectoryKind(
    name="recipe search",
    manifest="search.json",
    keys=frozenset({"space", "fingerprint"}),
    files=(
        *("search.json", "study.journal", "study.journal.lock*", "table.arrow", "worker-*.log"),
        *("trials/*.json", "trials/*.npy", "unimodal/*.json", "unimodal/*.npy"),
        *("baselines/*.json", "baselines/*.npy", "baselines/complete", "leaderboard.json", "tuning.html"),
    ),
    folders={"best": "model", "best.part": "model", "ensemble": "ensemble", "ensemble.part": "ensemble"},
    resumable=("search.json",),
    is_extended=True,
)
MULTITASK_GAIN = DirectoryKind(
    name="multitask comparison",
    manifest="multitask_gain.json",
    keys=frozenset({"multitask", "single_task"}),
    files=("multitask_gain.json",),
    folders={"multitask": "model", "single-task-*": "model"},
)

SHARDS = DirectoryKind(
    name="folder of shards",
    manifest="shards.json",
    keys=frozenset({"kind", "shards"}),
    files=("shards.json", "cell_errors.jsonl", "part-*.parquet"),
    is_extended=True,
)

ONNX_EXPORT = DirectoryKind(
    name="ONNX export",
    manifest="export.json",
    keys=frozenset({"format", "parity_rows"}),
    files=(
        *("model.onnx", "model.onnx.data", "export.json", "check.py", "parity.safetensors", "recipe.yaml"),
        *("preparation.json", "preparation/input*/tokenizer.json", "preparation/output*/tokenizer.json"),
    ),
)

KINDS = {
    "onnx": ONNX_EXPORT,
    "shards": SHARDS,
    "model": MODEL,
    "index": INDEX,
    "ensemble": ENSEMBLE,
    "few_shot": FEW_SHOT,
    "search": SEARCH,
    "multitask_gain": MULTITASK_GAIN,
}


def kind_of(folder: Path) -> DirectoryKind | None:
    """The kind of a directory by its manifest; None if there is none, or it belongs to something else."""
    for kind in KINDS.values():
        if kind.keys <= json_object(folder / kind.manifest).keys():
            return kind
    return None


def json_object(path: Path) -> dict[str, Any]:
    """The JSON object in a small file; an empty one if the file is missing or holds something else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def files_in(folder: Path) -> Iterator[str]:
    """The files in a folder and its subfolders, relative and with `/`. A link counts as a file."""
    for base, folders, files in os.walk(folder):
        links = [name for name in folders if (Path(base) / name).is_symlink()]
        for name in sorted([*files, *links]):
            yield (Path(base) / name).relative_to(folder).as_posix()


def foreign_files(folder: Path, kind: DirectoryKind) -> list[str]:
    """The files in a folder that no command writes into a directory of this kind."""
    return [name for name in files_in(folder) if not kind.owns(name)]


def delete_owned(folder: Path, kind: DirectoryKind) -> None:
    """Delete the files of a kind and the folders that are empty then, but not `folder` itself. `writing.json` is
    deleted last."""
    for name in list(files_in(folder)):
        if kind.owns(name) and name != WRITING:
            (folder / name).unlink(missing_ok=True)
    for base, _, _ in os.walk(folder, topdown=False):
        path = Path(base)
        if path != folder and not any(path.iterdir()):
            path.rmdir()
    (folder / WRITING).unlink(missing_ok=True)
