"""Curation results as JSON lines and as a self-contained HTML page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from polymodal._version import __version__
from polymodal.applications.curation.duplicates import DuplicateGroup, Duplicates
from polymodal.applications.curation.label_issues import LabelIssues
from polymodal.applications.curation.mismatches import Mismatches
from polymodal.applications.curation.results import CurationResult, CurationRows
from polymodal.checkpoint.model_directory import json_ready
from polymodal.core.formatting import truncate
from polymodal.core.writing import atomic_path, write_text
from polymodal.modalities.base import Modality
from polymodal.report.examples import MAX_COLUMNS, ExampleCell, thumbnail
from polymodal.report.template import template

#: Maximum number of groups, rows per group, and pairs on the page. The JSON lines contain all of them.
MAX_GROUPS, MAX_ROWS, MAX_PAIRS = 60, 6, 40


@dataclass(frozen=True)
class RowPreview:
    """One row on the page: its table and row number, and its cells."""

    location: str
    seen: list[ExampleCell]


@dataclass(frozen=True)
class GroupPreview:
    """One group of duplicates on the page; `num_hidden` of its rows are not shown."""

    group: DuplicateGroup
    rows: list[RowPreview]
    num_hidden: int


@dataclass(frozen=True)
class DuplicatesSection:
    """The section of the page for the duplicates of one input."""

    input: str
    duplicates: Duplicates
    groups: list[GroupPreview]


@dataclass(frozen=True)
class PairPreview:
    """One pair on the page; `index` is its index in the arrays of `Mismatches`."""

    index: int
    row: RowPreview


@dataclass(frozen=True)
class MismatchesSection:
    """The section of the page for the mismatches of one pair of inputs."""

    inputs: tuple[str, str]
    mismatches: Mismatches
    pairs: list[PairPreview]


@dataclass(frozen=True)
class LabelPreview:
    """One doubtful label on the page; `index` is its index in the arrays of `LabelIssues`."""

    index: int
    row: RowPreview


@dataclass(frozen=True)
class LabelsSection:
    """The section of the page for the labels of one output."""

    output: str
    issues: LabelIssues
    doubtful: list[LabelPreview]


#: The files of the report.
FILES = ("duplicates.jsonl", "mismatches.jsonl", "labels.jsonl", "curation.html")


def write_curation_report(folder: Path, result: CurationResult, rows: CurationRows) -> None:
    """Write `duplicates.jsonl`, `mismatches.jsonl` and `curation.html` into `folder`, which is created if needed;
    `labels.jsonl` if labels were checked, alone if nothing else was."""
    if not result.labels or result.duplicates or result.mismatches:
        _write_lines(folder / "duplicates.jsonl", _groups(result, rows))
        _write_lines(folder / "mismatches.jsonl", _pairs(result, rows))
    if result.labels:
        _write_lines(folder / "labels.jsonl", _labels(result, rows))
    write_text(folder / "curation.html", render(result, rows))


def render(result: CurationResult, rows: CurationRows) -> str:
    """The HTML source of the page."""
    return template("report.html.j2", "applications/curation").render(
        version=__version__,
        tables=[(table.name, len(table)) for table in rows.tables],
        trained_on=result.trained_on,
        duplicates=[_duplicates_section(name, duplicates, rows) for name, duplicates in result.duplicates.items()],
        mismatches=[_mismatches_section(pair, mismatches, rows) for pair, mismatches in result.mismatches.items()],
        labels=[_labels_section(output, issues, rows) for output, issues in result.labels.items()],
    )


def _groups(result: CurationResult, rows: CurationRows) -> Iterator[dict[str, Any]]:
    for name, duplicates in result.duplicates.items():
        for group in duplicates.groups:
            yield {
                "input": name,
                "kind": "near" if group.items > 1 else "exact",
                "similarity": group.similarity,
                "items": group.items,
                "rows": rows.by_table(group.rows),
            }


def _pairs(result: CurationResult, rows: CurationRows) -> Iterator[dict[str, Any]]:
    """Every checked row, lowest z-score first."""
    for pair, mismatches in result.mismatches.items():
        for index in mismatches.order().tolist():
            table, row = rows.locate(int(mismatches.rows[index]))
            yield {
                "inputs": list(pair),
                "table": rows.names[table],
                "row": row,
                "flagged": bool(mismatches.flagged[index]),
                **{
                    name: float(getattr(mismatches, name)[index])
                    for name in ("z_score", "similarity", "rank", "margin", "negative_fraction", "p_value")
                },
            }


def _labels(result: CurationResult, rows: CurationRows) -> Iterator[dict[str, Any]]:
    """Every label that was checked, the most doubtful first."""
    for output, issues in result.labels.items():
        for index, row in enumerate(issues.rows.tolist()):
            yield {
                "output": output,
                "table": rows.names[0],
                "row": row,
                "flagged": bool(issues.flagged[index]),
                "label": issues.given[index],
                "suggested": issues.suggested[index],
                "label_probability": float(issues.label_probability[index]),
                "suggested_probability": float(issues.suggested_probability[index]),
            }


def _write_lines(path: Path, values: Iterator[dict[str, Any]]) -> None:
    with atomic_path(path) as part, part.open("w", encoding="utf-8") as file:
        for value in values:
            file.write(json.dumps(json_ready(value), ensure_ascii=False) + "\n")


def _duplicates_section(name: str, duplicates: Duplicates, rows: CurationRows) -> DuplicatesSection:
    first = sorted(duplicates.groups, key=lambda group: (group.items == 1, len(group.sources) < 2))[:MAX_GROUPS]
    groups = []
    for group in first:
        chosen = _first_of_each(rows.index[name], group.rows)[:MAX_ROWS] if group.items > 1 else group.rows[:MAX_ROWS]
        groups.append(
            GroupPreview(group, [_row_preview(rows, row, [name]) for row in chosen], len(group.rows) - len(chosen))
        )
    return DuplicatesSection(name, duplicates, groups)


def _mismatches_section(pair: tuple[str, str], mismatches: Mismatches, rows: CurationRows) -> MismatchesSection:
    order = mismatches.order()
    first = np.concatenate([order[mismatches.flagged[order]], order[~mismatches.flagged[order]]])[:MAX_PAIRS]
    pairs = [PairPreview(int(index), _row_preview(rows, int(mismatches.rows[index]), list(pair))) for index in first]
    return MismatchesSection(pair, mismatches, pairs)


def _labels_section(output: str, issues: LabelIssues, rows: CurationRows) -> LabelsSection:
    names = list(rows.preparation.modalities)
    first = range(min(MAX_PAIRS, int(issues.flagged.sum())))
    return LabelsSection(
        output, issues, [LabelPreview(index, _row_preview(rows, int(issues.rows[index]), names)) for index in first]
    )


def _first_of_each(index: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The first of `rows` for each distinct item."""
    return rows[np.sort(np.unique(index[rows], return_index=True)[1])]


def _row_preview(rows: CurationRows, row: int, names: list[str]) -> RowPreview:
    table, table_row = rows.locate(int(row))
    cells: list[ExampleCell] = []
    for name in names:
        modality, source = rows.preparation.modalities[name], rows.prepared[table].inputs[name]
        if type(modality).preview is not Modality.preview:
            item = int(source.index[table_row])
            cells.append(ExampleCell(name, thumbnail=thumbnail(modality, source.items, item) if item >= 0 else ""))
            continue
        for column in modality.columns[:MAX_COLUMNS]:
            values = rows.tables[table].values(column, np.array([table_row]))
            (cell,) = values.to_pylist() if isinstance(values, pa.ChunkedArray) else values
            cells.append(ExampleCell(column, "" if cell is None else truncate(cell)))
    location = (
        f"Row {table_row:,}" if len(rows.tables) == 1 else f"{truncate(rows.tables[table].name, 40)}, row {table_row:,}"
    )
    return RowPreview(location, cells)
