"""What curation found, as JSON lines and as a self-contained HTML page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from polymodal._version import __version__
from polymodal.applications.curation.duplicates import Duplicates, Group
from polymodal.applications.curation.mismatches import Mismatches
from polymodal.applications.curation.results import Curation, Rows
from polymodal.checkpoint.model_directory import json_ready
from polymodal.core.formatting import cut
from polymodal.modalities.base import Modality
from polymodal.report.examples import MOST_COLUMNS, Seen, thumbnail
from polymodal.report.template import template

#: Groups, rows of a group, and pairs that the page shows; the JSON lines have all.
MOST_GROUPS, MOST_ROWS, MOST_PAIRS = 60, 6, 40


@dataclass(frozen=True)
class Shown:
    """One row: where it stands, and what the model saw of it."""

    where: str
    seen: list[Seen]


@dataclass(frozen=True)
class ShownGroup:
    group: Group
    rows: list[Shown]
    more: int


@dataclass(frozen=True)
class ShownDuplicates:
    input: str
    found: Duplicates
    groups: list[ShownGroup]


@dataclass(frozen=True)
class ShownPair:
    """`place`: of the row in `Mismatches`."""

    place: int
    row: Shown


@dataclass(frozen=True)
class ShownMismatches:
    inputs: tuple[str, str]
    found: Mismatches
    pairs: list[ShownPair]


def write_curation(folder: Path, found: Curation, rows: Rows) -> None:
    """Write `duplicates.jsonl`, `mismatches.jsonl` and `curation.html` into `folder`, made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_lines(folder / "duplicates.jsonl", _groups(found, rows))
    _write_lines(folder / "mismatches.jsonl", _pairs(found, rows))
    (folder / "curation.html").write_bytes(render(found, rows).encode("utf-8", "replace"))


def render(found: Curation, rows: Rows) -> str:
    """The HTML text of the page."""
    return template("page.html.j2", "applications/curation").render(
        version=__version__,
        tables=[(table.name, len(table)) for table in rows.tables],
        seen=found.seen,
        duplicates=[_shown_duplicates(name, one, rows) for name, one in found.duplicates.items()],
        mismatches=[_shown_mismatches(pair, one, rows) for pair, one in found.mismatches.items()],
    )


def _groups(found: Curation, rows: Rows) -> Iterator[dict[str, Any]]:
    for name, duplicates in found.duplicates.items():
        for group in duplicates.groups:
            yield {
                "input": name,
                "kind": "near" if group.items > 1 else "exact",
                "similarity": group.similarity,
                "items": group.items,
                "rows": rows.by_table(group.rows),
            }


def _pairs(found: Curation, rows: Rows) -> Iterator[dict[str, Any]]:
    """Every judged row, the worst fit first."""
    for pair, judged in found.mismatches.items():
        for place in judged.order().tolist():
            table, row = rows.place(int(judged.rows[place]))
            yield {
                "inputs": list(pair),
                "table": rows.names[table],
                "row": row,
                "listed": bool(judged.listed[place]),
                **{
                    name: float(getattr(judged, name)[place])
                    for name in ("fit", "similarity", "rank", "margin", "like_wrong", "p_value")
                },
            }


def _write_lines(path: Path, values: Iterator[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for value in values:
            file.write(json.dumps(json_ready(value), ensure_ascii=False) + "\n")


def _shown_duplicates(name: str, found: Duplicates, rows: Rows) -> ShownDuplicates:
    first = sorted(found.groups, key=lambda group: (group.items == 1, len(group.parts) < 2))[:MOST_GROUPS]
    groups = []
    for group in first:
        chosen = _one_of_each(rows.index[name], group.rows)[:MOST_ROWS] if group.items > 1 else group.rows[:MOST_ROWS]
        groups.append(ShownGroup(group, [_shown(rows, row, [name]) for row in chosen], len(group.rows) - len(chosen)))
    return ShownDuplicates(name, found, groups)


def _shown_mismatches(pair: tuple[str, str], found: Mismatches, rows: Rows) -> ShownMismatches:
    order = found.order()
    first = np.concatenate([order[found.listed[order]], order[~found.listed[order]]])[:MOST_PAIRS]
    pairs = [ShownPair(int(place), _shown(rows, int(found.rows[place]), list(pair))) for place in first]
    return ShownMismatches(pair, found, pairs)


def _one_of_each(index: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The first of `rows` with each item."""
    return rows[np.sort(np.unique(index[rows], return_index=True)[1])]


def _shown(rows: Rows, row: int, names: list[str]) -> Shown:
    table, own = rows.place(int(row))
    seen: list[Seen] = []
    for name in names:
        modality, source = rows.preparation.modalities[name], rows.prepared[table].inputs[name]
        if type(modality).picture is not Modality.picture:
            item = int(source.index[own])
            seen.append(Seen(name, picture=thumbnail(modality, source.items, item) if item >= 0 else ""))
            continue
        for column in modality.columns[:MOST_COLUMNS]:
            cells = rows.tables[table].values(column, np.array([own]))
            (cell,) = cells.to_pylist() if isinstance(cells, pa.ChunkedArray) else cells
            seen.append(Seen(column, "" if cell is None else cut(cell)))
    where = f"Row {own:,}" if len(rows.tables) == 1 else f"{cut(rows.tables[table].name, 40)}, row {own:,}"
    return Shown(where, seen)
