"""The contents of a run directory: its tensors and numbers, independent of the layout of its files."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

Named = dict[str, str]

#: Keys of times and other facts of the machine.
_MEASURED_KEYS = re.compile(r"second|latency|memory|machine|rows_per")


def tensors(folder: Path) -> Named:
    """Dtype, shape and hash of every tensor in every safetensors file in `folder`, by file and name."""
    result: Named = {}
    for path in sorted(folder.rglob("*.safetensors")):
        content = path.read_bytes()
        start = 8 + int.from_bytes(content[:8], "little")
        for name, entry in json.loads(content[8:start]).items():
            if name != "__metadata__":
                first, after = entry["data_offsets"]
                digest = hashlib.sha256(content[start + first : start + after]).hexdigest()
                shape = "x".join(map(str, entry["shape"]))
                result[f"{path.relative_to(folder).as_posix()}:{name}"] = f"{entry['dtype']} [{shape}] {digest[:24]}"
    return result


def numbers(folder: Path) -> Named:
    """Every number in the metrics, histories, step logs and leaderboards in `folder`, by file and key, without
    times."""
    result: Named = {}
    for path in sorted([*folder.rglob("*.json"), *folder.rglob("*.jsonl")]):
        name, text = path.relative_to(folder).as_posix(), path.read_text(encoding="utf-8")
        if path.name == "run.json":
            result |= _leaves(_histories(json.loads(text)), name)
        elif path.name in ("metrics.json", "leaderboard.json"):
            result |= _leaves(json.loads(text), name)
        elif path.name == "log.jsonl":
            result |= _leaves([json.loads(line) for line in text.splitlines()], name)
    return result


def prediction_hash(value: Any) -> str:
    """Kind and hash of a prediction: an array, lists of cells, or either by output."""
    if isinstance(value, dict):
        return "; ".join(f"{name}: {prediction_hash(one)}" for name, one in value.items())
    if isinstance(value, np.ndarray):
        digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        return f"{value.dtype} {list(value.shape)} {digest[:24]}"
    return f"{len(value)} cells {hashlib.sha256(repr(value).encode()).hexdigest()[:24]}"


def _histories(run: Any) -> list[Any]:
    """Every value of a key `history`, at any depth."""
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
            if not _MEASURED_KEYS.search(key):
                yield from _walk(one, f"{path}/{key}")
    elif isinstance(value, list):
        for index, one in enumerate(value):
            yield from _walk(one, f"{path}/{index}")
    elif isinstance(value, int | float):  # strings are names and reasons; a missing number is None
        yield path, repr(value)
