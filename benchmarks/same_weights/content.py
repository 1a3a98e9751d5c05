"""What a run left behind, by content: tensors and numbers in its folder, however its files are laid out."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

Named = dict[str, str]

#: Keys under which times and other facts of the machine stand.
_MEASURED = re.compile(r"second|latency|memory|machine|rows_per")


def tensors(folder: Path) -> Named:
    """Type, shape and hash of every tensor in every safetensors file below `folder`, by file and name."""
    found: Named = {}
    for path in sorted(folder.rglob("*.safetensors")):
        content = path.read_bytes()
        start = 8 + int.from_bytes(content[:8], "little")
        for name, entry in json.loads(content[8:start]).items():
            if name != "__metadata__":
                first, after = entry["data_offsets"]
                digest = hashlib.sha256(content[start + first : start + after]).hexdigest()
                shape = "x".join(map(str, entry["shape"]))
                found[f"{path.relative_to(folder).as_posix()}:{name}"] = f"{entry['dtype']} [{shape}] {digest[:24]}"
    return found


def numbers(folder: Path) -> Named:
    """Every number in the metrics, histories, step logs and leaderboards below `folder`, by file and key; no times."""
    found: Named = {}
    for path in sorted([*folder.rglob("*.json"), *folder.rglob("*.jsonl")]):
        name, text = path.relative_to(folder).as_posix(), path.read_text(encoding="utf-8")
        if path.name == "run.json":
            found |= _leaves(_histories(json.loads(text)), name)
        elif path.name in ("metrics.json", "leaderboard.json"):
            found |= _leaves(json.loads(text), name)
        elif path.name == "log.jsonl":
            found |= _leaves([json.loads(line) for line in text.splitlines()], name)
    return found


def answer(value: Any) -> str:
    """Kind and hash of what a model answers: an array, lists of cells, or either by output."""
    if isinstance(value, dict):
        return "; ".join(f"{name}: {answer(one)}" for name, one in value.items())
    if isinstance(value, np.ndarray):
        digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        return f"{value.dtype} {list(value.shape)} {digest[:24]}"
    return f"{len(value)} cells {hashlib.sha256(repr(value).encode()).hexdigest()[:24]}"


def _histories(run: Any) -> list[Any]:
    """Everything that stands under a key `history`, at any depth."""
    if isinstance(run, list):
        return [one for item in run for one in _histories(item)]
    if not isinstance(run, dict):
        return []
    own = [run["history"]] if "history" in run else []
    return own + [one for key, value in run.items() if key != "history" for one in _histories(value)]


def _leaves(value: Any, path: str) -> Named:
    return dict(_walk(value, path))


def _walk(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, one in value.items():
            if not _MEASURED.search(key):
                yield from _walk(one, f"{path}/{key}")
    elif isinstance(value, list):
        for place, one in enumerate(value):
            yield from _walk(one, f"{path}/{place}")
    elif isinstance(value, int | float):  # texts are names, reasons and places; a number that is missing is None
        yield path, repr(value)
