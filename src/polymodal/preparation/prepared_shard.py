"""One file of prepared rows: the items of each row group, and the index, targets and bad cells of all its rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from polymodal.data.group_file import Arrays, GroupFile, GroupFileWriter
from polymodal.data.store.item_arrays import from_arrays, to_arrays
from polymodal.data.store.items import Items
from polymodal.data.table.cell_errors import CellError, CellErrors
from polymodal.preparation.feature_cache import FeatureItems
from polymodal.preparation.preparation import PreparedTable
from polymodal.preparation.row_arrays import from_row_arrays, to_row_arrays

CELL_ERRORS = "cell_errors"
#: Bytes of a content key.
KEY_BYTES = 16


class PreparedShardWriter:
    """Writes prepared row groups into one file. Memory holds one group, and the index and targets of all.

    folder: where the groups are kept until all are there
    """

    def __init__(self, folder: Path) -> None:
        self._file = GroupFileWriter(folder)
        self._rows: dict[str, list[np.ndarray]] = {}
        self._groups: list[dict[str, Any]] = []

    def __enter__(self) -> PreparedShardWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def add(self, table: PreparedTable) -> None:
        """Add a row group. Items with frozen features have no augmented copies."""
        arrays: Arrays = {}
        forms: dict[str, Any] = {}
        rows = to_row_arrays(table)
        for number, (name, source) in enumerate(table.inputs.items()):
            prefix, items, features = f"input{number}.", source.items, None
            if isinstance(items, FeatureItems):
                features = {"dtype": items.dtype, "per_item_fields": list(items.per_item_fields)}
                items = items.original
            form, own = to_arrays(items, prefix)
            size = sum(array.nbytes for array in own.values())
            forms[name] = {"form": form, "items": len(items), "size": size, "features": features}
            arrays |= own
            rows[f"{prefix}index"] = source.index.astype(np.int32)
            if (lengths := items.lengths()) is not None:
                rows[f"{prefix}length"] = lengths
            if source.content_keys is not None:
                rows[f"{prefix}keys"] = np.frombuffer(b"".join(source.content_keys), np.uint8).reshape(-1, KEY_BYTES)
        self._file.add(arrays)
        self._groups.append({"rows": len(table), "inputs": forms})
        for name, array in rows.items():
            self._rows.setdefault(name, []).append(array)

    def finish(self, path: Path, errors: CellErrors) -> None:
        """Write the file.

        errors: the cells of all rows that cannot be used
        """
        rows = {name: np.concatenate(parts) for name, parts in self._rows.items()}
        rows[CELL_ERRORS] = np.frombuffer("".join(errors.json_lines()).encode(), np.uint8)
        facts = {"kind": "prepared rows", "groups": self._groups, "cell_errors": len(errors.errors)}
        self._file.finish(path, rows, facts)


@dataclass(frozen=True)
class RowGroupFacts:
    """What the header of a shard says about an input of a row group.

    form: how its items are made from arrays
    items, size: their number and bytes
    features: `dtype` and `per_item_fields` of frozen features; None for items
    """

    form: dict[str, Any]
    items: int
    size: int
    features: dict[str, Any] | None


class PreparedShard:
    """A file of prepared rows, of which the header has been read.

    group_rows: the number of rows of each row group
    """

    def __init__(self, file: GroupFile) -> None:
        self.file = file
        self.group_rows: list[int] = [group["rows"] for group in file.facts["groups"]]

    @property
    def rows(self) -> int:
        """The number of rows."""
        return sum(self.group_rows)

    @property
    def num_cell_errors(self) -> int:
        """The number of cells that cannot be used."""
        return int(self.file.facts["cell_errors"])

    @property
    def checksum(self) -> str:
        """A hash of the content."""
        return xxhash.xxh3_128_hexdigest(" ".join(self.file.facts["checksums"]).encode())

    def inputs(self, group: int) -> dict[str, RowGroupFacts]:
        """The facts about each input of a row group."""
        return {name: RowGroupFacts(**facts) for name, facts in self.file.facts["groups"][group]["inputs"].items()}

    def items(self, group: int) -> dict[str, Items]:
        """The items of each input of a row group.

        Raises:
            DataError: the file cannot be read, or is damaged.
        """
        arrays = self.file.group(group)
        return {name: from_arrays(facts.form, arrays) for name, facts in self.inputs(group).items()}

    def row_arrays(self) -> ShardRows:
        """What concerns the rows of all groups.

        Raises:
            DataError: the file cannot be read, or is damaged.
        """
        return ShardRows(self, self.file.rows())


class ShardRows:
    """The index, targets and bad cells of the rows of a shard, without its items."""

    def __init__(self, shard: PreparedShard, arrays: Arrays) -> None:
        self.shard, self.arrays = shard, arrays

    def targets(self, outputs: Sequence[str]) -> PreparedTable:
        """The rows without their inputs."""
        return from_row_arrays(self.arrays, outputs, self.shard.rows)

    def cell_error_lines(self) -> list[str]:
        """The bad cells, each a line of JSON."""
        return self.arrays[CELL_ERRORS].tobytes().decode().splitlines(keepends=True)

    def cell_errors(self) -> list[CellError]:
        """The bad cells."""
        return [CellError(**json.loads(line)) for line in self.cell_error_lines()]

    def group_inputs(self) -> list[dict[str, GroupRows]]:
        """The rows of each input of each row group."""
        found, row = [], 0
        first: dict[str, int] = {}
        for group, rows in enumerate(self.shard.group_rows):
            own = {}
            for number, (name, facts) in enumerate(self.shard.inputs(group).items()):
                prefix, begin = f"input{number}.", first.get(name, 0)
                here = slice(begin, begin + facts.items)
                keys, lengths = self.arrays.get(f"{prefix}keys"), self.arrays.get(f"{prefix}length")
                own[name] = GroupRows(
                    self.arrays[f"{prefix}index"][row : row + rows].astype(np.int64),
                    facts.items,
                    facts.size,
                    None if lengths is None else lengths[here],
                    None if keys is None else keys[here],
                )
                first[name] = here.stop
            found.append(own)
            row += rows
        return found


@dataclass(frozen=True)
class GroupRows:
    """The rows of an input in one row group.

    index: `[rows]` int64, the item of each row, counted within the group; -1 if it is missing
    items, size: number of its items, and their bytes
    lengths: `[items]`, their lengths; None if all are equal
    keys: `[items, KEY_BYTES]` uint8, their content keys; None if items are never shared
    """

    index: np.ndarray
    items: int
    size: int
    lengths: np.ndarray | None
    keys: np.ndarray | None

    @property
    def content_keys(self) -> list[bytes] | None:
        """The content key of each item."""
        return None if self.keys is None else [key.tobytes() for key in self.keys]
