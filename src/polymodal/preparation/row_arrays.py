"""The targets, prompts and weights of prepared rows as named arrays, from which they are read again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np

from polymodal.data.group_file import Arrays
from polymodal.preparation.preparation import PreparedTable
from polymodal.tasks.text_targets import TextTarget, object_array

WEIGHT = "weight"
#: The length of a prompt that cannot be used.
UNUSABLE = -1


def to_row_arrays(table: PreparedTable) -> Arrays:
    """The targets, prompts and weights of prepared rows. Those of consecutive rows can be concatenated by name."""
    arrays: Arrays = {} if table.weight is None else {WEIGHT: table.weight}
    for number, (name, (value, present)) in enumerate(table.targets.items()):
        prefix = f"output{number}"
        arrays[f"{prefix}.present"], arrays[f"{prefix}.unusable"] = present, table.unusable_targets[name]
        if value.dtype != object:
            arrays[f"{prefix}.value"] = value
            continue
        lines = [json.dumps(one.references) + "\n" for one in value]
        arrays |= _joined(f"{prefix}.ids", [one.ids for one in value])
        arrays[f"{prefix}.references"] = np.frombuffer("".join(lines).encode(), np.uint8)
    for name, prompts in table.prompts.items():
        arrays |= _joined(f"output{list(table.targets).index(name)}.prompt", prompts)
    return arrays


def from_row_arrays(arrays: Mapping[str, np.ndarray], outputs: Sequence[str], rows: int) -> PreparedTable:
    """The rows without their inputs, from what `to_row_arrays` gave for the outputs with these names."""
    targets, unusable, prompts = {}, {}, {}
    for number, name in enumerate(outputs):
        prefix = f"output{number}"
        value = arrays.get(f"{prefix}.value")
        if value is None:
            ids = _separated(f"{prefix}.ids", arrays)
            lines = arrays[f"{prefix}.references"].tobytes().decode().splitlines()
            value = object_array(
                [
                    TextTarget(one if one is not None else np.zeros(0, np.int32), tuple(json.loads(line)))
                    for one, line in zip(ids, lines, strict=True)
                ]
            )
        targets[name] = (value, arrays[f"{prefix}.present"])
        unusable[name] = arrays[f"{prefix}.unusable"]
        if f"{prefix}.prompt" in arrays:
            prompts[name] = object_array(_separated(f"{prefix}.prompt", arrays))
    return PreparedTable({}, targets, arrays.get(WEIGHT), rows, prompts, unusable_targets=unusable)


def _joined(name: str, sequences: Sequence[np.ndarray | None] | np.ndarray) -> Arrays:
    lengths = [UNUSABLE if one is None else len(one) for one in sequences]
    joined = np.concatenate([np.zeros(0, np.int32), *(one for one in sequences if one is not None)])
    return {name: joined.astype(np.int32), f"{name}_length": np.array(lengths, np.int32)}


def _separated(name: str, arrays: Mapping[str, np.ndarray]) -> list[np.ndarray | None]:
    lengths = arrays[f"{name}_length"].astype(np.int64)
    ends = np.cumsum(np.maximum(lengths, 0))
    return [
        None if length == UNUSABLE else arrays[name][end - length : end]
        for length, end in zip(lengths.tolist(), ends.tolist(), strict=True)
    ]
