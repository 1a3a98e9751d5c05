"""Damage to saved files: generated changes of a directory, with and without the right checksums."""

from __future__ import annotations

import copy
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from polymodal.checkpoint.model_directory import file_sha256
from polymodal.core.checksum import sign

JUNK: list[Any] = [None, True, -1, 0, 3, 10**30, 1.5, "", "x\0", "yes", [], {}, [[]], {"a": 1}, ["a"], [[[[[1]]]]]]


def change_signed(path: Path, **changes: Any) -> None:
    """Change keys of a JSON object and sign it again, as someone who edits a file would have to."""
    values = json.loads(path.read_text())
    values.pop("checksum", None)
    replace(path, json.dumps(sign({**values, **changes})).encode())


def replace(path: Path, content: bytes) -> None:
    """Write a new file; a hard link to the old one keeps its content."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def copy_linked(source: Path, target: Path) -> Path:
    """A copy of a directory by hard links."""
    shutil.rmtree(target, ignore_errors=True)
    return Path(shutil.copytree(source, target, copy_function=os.link))


def damage(folder: Path, draw: np.random.Generator) -> str:
    """Damage one file of a directory without its checksums, and say how."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    path = files[draw.integers(len(files))]
    kind = list(DAMAGE)[draw.integers(len(DAMAGE))]
    DAMAGE[kind](path, files, draw)
    return f"{kind} {path.relative_to(folder)}"


def _flip(path: Path, files: list[Path], draw: np.random.Generator) -> None:
    content = bytearray(path.read_bytes() or b"\0")
    content[draw.integers(len(content))] ^= 1 << int(draw.integers(8))
    replace(path, bytes(content))


def _cut(path: Path, files: list[Path], draw: np.random.Generator) -> None:
    content = path.read_bytes()
    replace(path, content[: draw.integers(len(content) + 1)])


def _zeros(path: Path, files: list[Path], draw: np.random.Generator) -> None:
    content = bytearray(path.read_bytes())
    start, end = sorted(draw.integers(0, len(content) + 1, 2))
    content[start:end] = bytes(end - start)
    replace(path, bytes(content))


def _other(path: Path, files: list[Path], draw: np.random.Generator) -> None:
    replace(path, files[draw.integers(len(files))].read_bytes())


def _link(path: Path, files: list[Path], draw: np.random.Generator) -> None:
    targets = [files[draw.integers(len(files))], path.parent, path.parent / "nowhere", Path("/dev/null"), path]
    target = targets[draw.integers(len(targets))]
    path.unlink()
    path.symlink_to(target)


def _folder(path: Path, files: list[Path], draw: np.random.Generator) -> None:
    path.unlink()
    path.mkdir()


def _extra(path: Path, files: list[Path], draw: np.random.Generator) -> None:
    names = [".hidden", "notes.txt", f"{path.name}.part", f"{path.stem}2{path.suffix}", "tokenizer.json", "a.keys"]
    extra = path.with_name(names[draw.integers(len(names))])
    replace(extra, draw.bytes(20))


def _json(path: Path, files: list[Path], draw: np.random.Generator) -> None:
    try:
        values = json.loads(path.read_bytes())
    except ValueError:
        _flip(path, files, draw)
        return
    replace(path, json.dumps(mutated(values, draw)).encode())


DAMAGE = {
    "flip": _flip,
    "cut": _cut,
    "zeros": _zeros,
    "empty": lambda path, files, draw: replace(path, b""),
    "random": lambda path, files, draw: replace(path, draw.bytes(int(draw.integers(1, 200)))),
    "delete": lambda path, files, draw: path.unlink(),
    "other file": _other,
    "link": _link,
    "folder": _folder,
    "extra": _extra,
    "json": _json,
}


def mutated(values: Any, draw: np.random.Generator) -> Any:
    """JSON values with one change: a value that is another, gone, twice, or under another key."""
    values = copy.deepcopy(values)
    node = values
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node))) if isinstance(node, list) else []
        if not keys:
            return JUNK[draw.integers(len(JUNK))]
        key = keys[draw.integers(len(keys))]
        if isinstance(node[key], dict | list) and node[key] and draw.random() < 0.8:
            node = node[key]
            continue
        change = draw.integers(4)
        if change == 0:
            del node[key]
        elif change == 1 and isinstance(node, list):
            node.append(node[key])
        elif change == 2 and isinstance(node, dict):
            node[str(key) + "x"] = node.pop(key)
        else:
            node[key] = JUNK[draw.integers(len(JUNK))]
        return values


def mutate_signed_model(folder: Path, draw: np.random.Generator) -> str:
    """Change the structure of one JSON file of a model, and give the manifest the right checksums."""
    files = sorted(path for path in folder.rglob("*.json"))
    path = files[draw.integers(len(files))]
    values = json.loads(path.read_text())
    if path.name == "manifest.json":
        values.pop("checksum")
        changed = mutated(values, draw)
        replace(path, json.dumps(sign(changed) if isinstance(changed, dict) else changed).encode())
    else:
        replace(path, json.dumps(mutated(values, draw)).encode())
        sums = json.loads((folder / "manifest.json").read_text())["sha256"]
        sums[path.relative_to(folder).as_posix()] = file_sha256(path)
        change_signed(folder / "manifest.json", sha256=sums)
    return f"signed {path.relative_to(folder)}"
