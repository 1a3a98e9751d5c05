"""Whether the training rows have usable cells: an input without any is an error, a column with many unusable cells is
a warning."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from polymodal.core.caller import warn_caller
from polymodal.core.errors import DataError
from polymodal.core.formatting import count_noun
from polymodal.data.media.nearest_file import find_root
from polymodal.data.partition import Split
from polymodal.data.table.cell_error_summary import summarize_reasons
from polymodal.data.table.cell_errors import BadCellsWarning, CellError
from polymodal.data.table.table import Table
from polymodal.modalities.intended_media import is_missing
from polymodal.preparation.preparation import Preparation, PreparedTable

#: A column of which a larger share of the cells that are not empty cannot be used is a warning.
MAX_BAD_SHARE = 0.05
#: Rows whose cells are in memory at once.
READ_ROWS = 4096
#: Beginnings of the reasons that another root folder may mend.
_PATH_PROBLEMS = ("a path needs a root", "the file does not exist", "the path leaves the root")


def check_training_cells(
    preparation: Preparation, split: Split[Table], prepared: PreparedTable, errors: Sequence[CellError]
) -> None:
    """Check that the training rows have a usable cell of every input, target and prompt.

    split, prepared: the training rows, and their prepared table
    errors: unusable cells of the whole table

    Raises:
        DataError: an input, a target or a prompt has no usable cell. The message lists the commonest reasons.
    """
    rows, count = split.rows, count_noun(len(split.rows), "training row")
    for name, modality in preparation.modalities.items():
        unlearned = modality.unlearned_columns()
        if (prepared.inputs[name].index[rows] >= 0).any() and len(unlearned) < len(modality.columns):
            continue
        leave = f"or leave {'it' if len(modality.columns) == 1 else 'them'} out (data.ignore_columns)"
        advice = f"Mend the cells, choose another modality (inputs.{name}.modality), {leave}"
        kind = modality.options.name
        problem = f"the input {name!r} ({kind}) has no usable cell in {count}"
        raise _no_usable_cell(problem, advice, split.table, modality.columns, errors, unlearned)
    for name, task in preparation.tasks.items():
        prompts = prepared.prompts.get(name)
        if prompts is not None and len(rows) and all(one is None for one in prompts[rows]):
            problem = f"the prompt of the output {name!r} cannot be used in any of {count}"
            advice = f"Mend the cells, or change the prompt (outputs.{name}.task)"
            raise _no_usable_cell(problem, advice, split.table, task.prompt_columns, errors, {})
        for column in task.prompt_columns:
            if not filled(split.table, column, rows).any():
                problem = f"the prompt of the output {name!r} reads this column, which is empty in all {count}"
                raise DataError(problem, column=column, file=split.table.name)
        if name in prepared.targets and not prepared.targets[name][1][rows].any():
            problem = f"the output {name!r} ({task.options.name}) has no usable target in {count}"
            advice = f"Mend the cells, or choose another task (outputs.{name}.task)"
            raise _no_usable_cell(problem, advice, split.table, task.columns, errors, {})


def bad_column_sentences(table: Table, errors: Sequence[CellError]) -> dict[str, tuple[str, ...]]:
    """A sentence for each column of `table` with a share of unusable cells above `MAX_BAD_SHARE`.

    errors: unusable cells of the table
    """
    sentences: dict[str, tuple[str, ...]] = {}
    by_column: dict[str, list[CellError]] = {}
    for error in errors:
        by_column.setdefault(error.column, []).append(error)
    for column, found in by_column.items():
        if column not in table.columns:
            continue
        cells = max(len(found), int(filled(table, column, np.arange(len(table))).sum()))
        if len(found) > MAX_BAD_SHARE * cells:
            share = f"{len(found) / cells:.0%}" if len(found) >= 0.1 * cells else f"{len(found) / cells:.1%}"
            count = f"{len(found):,} of {count_noun(cells, 'cell')} ({share})"
            text = f"column {column!r} of {table.name}: {count} cannot be used and count as missing"
            sentences[column] = (f"{text}. {summarize_reasons(found)}{_root_advice(table, found)}",)
    return sentences


def unlearned_sentences(preparation: Preparation) -> dict[str, tuple[str, ...]]:
    """A sentence for each column from which nothing was learned, of inputs with other columns."""
    return {
        column: (f"column {column!r} of the input {name!r} is of no use: in the training rows, {reason}",)
        for name, modality in preparation.modalities.items()
        for column, reason in modality.unlearned_columns().items()
    }


def warn_bad_columns(sentences: Mapping[str, tuple[str, ...]], listed_in: Path | None = None) -> None:
    """A `BadCellsWarning` for each sentence about a column.

    listed_in: the file that will list all unusable cells
    """
    where = "" if listed_in is None else f". At the end of the run, {listed_in} lists all of them"
    for text in (text for texts in sentences.values() for text in texts):
        warn_caller(f"{text}{where}", BadCellsWarning)


def filled(table: Table, column: str, rows: np.ndarray) -> np.ndarray:
    """Whether the cell of each of `rows [n]` in `column` is not empty: `[n]` bool. Some rows are read at a time."""
    parts = [_filled(table.values(column, rows[start : start + READ_ROWS])) for start in range(0, len(rows), READ_ROWS)]
    return np.concatenate([np.zeros(0, bool), *parts])


def _filled(cells: Any) -> np.ndarray:
    if not isinstance(cells, pa.ChunkedArray):
        return np.array([not is_missing(cell) for cell in cells], dtype=bool)
    known = pc.is_valid(cells)
    if pa.types.is_string(cells.type):
        known = pc.and_(known, pc.fill_null(pc.not_equal(pc.utf8_trim_whitespace(cells), ""), False))
    elif pa.types.is_floating(cells.type):
        known = pc.and_(known, pc.fill_null(pc.invert(pc.is_nan(cells)), False))
    elif pa.types.is_struct(cells.type):
        return np.array([not is_missing(cell) for cell in cells.to_pylist()], dtype=bool)
    return np.asarray(known)


def _no_usable_cell(
    problem: str,
    advice: str,
    table: Table,
    columns: Sequence[str],
    errors: Sequence[CellError],
    unlearned: Mapping[str, str],
) -> DataError:
    own = [error for error in errors if error.column in columns]
    empty = sum(int((~filled(table, column, np.arange(len(table)))).sum()) for column in columns)
    reasons = summarize_reasons(own, empty) + _root_advice(table, own)
    if unlearned and not own:
        reasons = "; ".join([*dict.fromkeys(unlearned.values()), *([reasons] if reasons else [])])
    where = f"columns {' and '.join(map(repr, columns))}: " if len(columns) > 1 else ""
    text = f"{where}{problem}. {reasons[:1].upper()}{reasons[1:]}. {advice}"
    return DataError(text, column=columns[0] if len(columns) == 1 else None, file=table.name)


def _root_advice(table: Table, errors: Sequence[CellError]) -> str:
    """The folder below which the files of these cells exist, if they do not exist below the root of the table."""
    paths = [error.file for error in errors if error.file is not None and error.reason.startswith(_PATH_PROBLEMS)]
    folder = find_root(paths, table.root)
    if folder is None:
        return ""
    shown = os.path.relpath(folder) if folder.is_relative_to(Path.cwd()) else str(folder)
    return f". These files exist below {shown}: pass root={shown!r} (--root {shlex.quote(shown)})"
