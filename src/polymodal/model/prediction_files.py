"""Predictions as rows of a table: in memory, or streamed to a file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from polymodal.checkpoint.output_file import OutputFile
from polymodal.core.errors import DataError, OutputError, RecipeError, did_you_mean
from polymodal.core.formatting import escape_formula
from polymodal.data.table.cell_errors import CellErrors
from polymodal.data.table.table import Table
from polymodal.model.measures_uncertainty import MeasuresUncertainty
from polymodal.model.prediction_columns import ANSWER, CONFIDENCE, HIGH, LOW, SET, prediction_columns
from polymodal.model.protocol import PredictsRows
from polymodal.model.uncertainty import Block
from polymodal.uncertainty.abstention import Selective
from polymodal.uncertainty.conformal_sets import Conformal

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet", ".arrow")
#: Formats that spreadsheet programs open, with formulas in cells.
SPREADSHEETS = (".csv", ".tsv")
#: The key of the cell errors in the metadata of a shard.
ERRORS_KEY = "polymodal.cell_errors"


def collect(
    model: PredictsRows,
    table: Table,
    cell_errors: CellErrors,
    *,
    probabilities: bool,
    options: Conformal | Selective | None = None,
) -> list[dict[str, Any]]:
    """The predictions of every row as dicts: the predicted value by output and, for classes, its probability.

    options: with conformal sets, or without the answers that are not sure enough
    """
    return [row for block in _blocks(model, table, cell_errors, probabilities, options) for row in block]


def write_predictions(
    model: PredictsRows,
    table: Table,
    cell_errors: CellErrors,
    out: OutputFile,
    *,
    probabilities: bool,
    escape_formulas: bool = False,
    options: Conformal | Selective | None = None,
) -> int:
    """Stream the predictions of `table` to a file, in the format of its suffix; return the number of rows.

    The file is renamed into place when it is complete.

    escape_formulas: write an apostrophe before a text that a spreadsheet program would compute (.csv and .tsv)
    options: as in `collect`

    Raises:
        DataError: the suffix is not supported, or `escape_formulas` is set for a format without formulas.
        OutputError: the file may not be replaced, or cannot be written.
    """
    path = out.path
    if path.suffix not in SUFFIXES:
        raise DataError(
            f"predictions cannot be written as {path.suffix!r}; {did_you_mean(path.suffix, SUFFIXES)}", file=str(path)
        )
    if escape_formulas:
        sets = isinstance(options, Conformal)
        _check_escaped(path, list(prediction_columns(model.tasks, probabilities=probabilities, sets=sets).values()))
    blocks = _blocks(model, table, cell_errors, probabilities, options)
    timelines = {name for name, task in model.tasks.items() if task.has_several_predictions}
    with out.writing() as part:
        if path.suffix == ".jsonl":
            return _write_lines(blocks, part)
        return _write_arrow(blocks, part, path.suffix, timelines, escape_formulas)


def write_prediction_shard(
    model: PredictsRows, table: Table, cell_errors: CellErrors, path: Path, *, probabilities: bool
) -> int:
    """Write the predictions of `table` as a Parquet file that also holds the cell errors; return the number of rows.

    Raises:
        DataError: (strict) a cell is unusable.
    """
    timelines = {name for name, task in model.tasks.items() if task.has_several_predictions}
    blocks = _blocks(model, table, cell_errors, probabilities)
    notes = lambda: {ERRORS_KEY: "".join(cell_errors.json_lines())}  # noqa: E731  # known after the last block only
    return _write_arrow(blocks, path, ".parquet", timelines, False, notes)


def read_prediction_shard(open_file: Callable[[str], Any], name: str) -> tuple[int, list[str]]:
    """The number of rows of a file of `write_prediction_shard`, and its cell errors as lines of JSON.

    open_file: opens a file by its name

    Raises:
        OutputError: the file is damaged.
    """
    from pyarrow import parquet  # slow to import

    with open_file(name) as file:
        try:
            found = parquet.ParquetFile(file, pre_buffer=False).metadata
            lines = [f"{line}\n" for line in found.metadata[ERRORS_KEY.encode()].decode().split("\n") if line]
        except (pa.ArrowException, KeyError, TypeError) as error:
            raise OutputError(f"{name} is damaged: delete it, and predict again") from error
    return found.num_rows, lines


def _check_escaped(path: Path, names: list[str]) -> None:
    if path.suffix not in SPREADSHEETS:
        raise DataError(
            f"a {path.suffix} file holds no formulas; write {' or '.join(SPREADSHEETS)}, or do not escape formulas",
            file=str(path),
        )
    for name in names:
        if escape_formula(name) != name and escape_formula(name) in names:
            raise DataError(
                f"the columns {name!r} and {escape_formula(name)!r} would have one name; do not escape formulas",
                file=str(path),
            )


def _blocks(
    model: PredictsRows,
    table: Table,
    cell_errors: CellErrors,
    probabilities: bool,
    options: Conformal | Selective | None = None,
) -> Iterator[list[dict[str, Any]]]:
    tasks = model.tasks
    has_sets = isinstance(options, Conformal)
    columns = prediction_columns(tasks, probabilities=probabilities, sets=has_sets)
    for answers, predicted in _answers(model, table, cell_errors, options):
        rows: list[dict[str, Any]] = [{} for _ in next(iter(predicted.values()))]
        for column, title in columns.items():
            own, distribution = answers[column.output], predicted[column.output]
            if column.label == ANSWER:
                values = tasks[column.output].predict(distribution) if has_sets else own
            elif column.label in (SET, LOW, HIGH):
                values = own if column.label == SET else [_end(one, column.label == HIGH) for one in own]
            else:
                _add(rows, title, distribution.max(1) if column.label == CONFIDENCE else distribution[:, column.label])
                continue
            for row, value in zip(rows, values, strict=True):
                row[title] = value
        yield rows


def _answers(
    model: PredictsRows, table: Table, cell_errors: CellErrors, options: Conformal | Selective | None
) -> Iterator[Block]:
    """The answers and distributions of each block, by output."""
    if isinstance(model, MeasuresUncertainty):
        yield from model.stream_answers(table, cell_errors, options)
        return
    if options is not None:
        path = "coverage" if isinstance(options, Conformal) else "max_risk"
        raise RecipeError(path, "needs one model; an ensemble or a few-shot head has no calibration rows")
    for _, predicted in model.stream(table, cell_errors):
        yield {name: model.tasks[name].predict(one) for name, one in predicted.items()}, predicted


def _end(interval: Any, high: bool) -> Any:
    """The low or high end of an interval, or of each interval of several columns; None without a prediction."""
    if interval is None:
        return None
    return interval[high] if isinstance(interval, tuple) else [one[high] for one in interval]


def _add(rows: list[dict[str, Any]], name: str, values: np.ndarray) -> None:
    for row, value in zip(rows, values.tolist(), strict=True):
        row[name] = None if value != value else value  # a row without a prediction


def _write_lines(blocks: Iterator[list[dict[str, Any]]], path: Path) -> int:
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for block in blocks:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in block)
            count += len(block)
    return count


def _write_arrow(
    blocks: Iterator[list[dict[str, Any]]],
    path: Path,
    suffix: str,
    timelines: set[str],
    escape: bool,
    notes: Callable[[], dict[str, str]] | None = None,
) -> int:
    writer: Any = None
    schema: pa.Schema | None = None
    count = 0
    try:
        for block in blocks:
            block = [{name: _flat(cell, suffix, name in timelines) for name, cell in row.items()} for row in block]
            if escape:
                block = [{escape_formula(name): escape_formula(cell) for name, cell in row.items()} for row in block]
            batch = pa.RecordBatch.from_pylist(block, schema=schema)
            if writer is None:
                schema = pa.schema([_typed(field) for field in batch.schema])
                batch = batch.cast(schema)
                writer = _writer(path, suffix, schema)
            writer.write_batch(batch)
            count += len(block)
        if notes is not None and writer is not None:
            writer.add_key_value_metadata(notes())
    finally:
        if writer is not None:
            writer.close()
    return count


def _typed(field: pa.Field) -> pa.Field:
    """The field with type string if the first block has only missing values: only texts can be missing."""
    return field.with_type(pa.string()) if pa.types.is_null(field.type) else field


def _writer(path: Path, suffix: str, schema: pa.Schema) -> Any:
    if suffix == ".parquet":
        from pyarrow import parquet  # slow to import

        return parquet.ParquetWriter(path, schema)
    if suffix == ".arrow":
        return pa.ipc.new_file(str(path), schema)
    from pyarrow import csv

    options = csv.WriteOptions(delimiter="\t" if suffix == ".tsv" else ",", quoting_style="needed")
    return csv.CSVWriter(str(path), schema, write_options=options)


def _flat(cell: Any, suffix: str, timeline: bool) -> Any:
    """Events as JSON text, so that all lists of events have the same type.

    In text files, other lists become one text cell, and a missing prediction becomes an empty text, because readers
    skip empty lines.
    """
    if timeline:
        return json.dumps(cell, ensure_ascii=False)
    if cell is None and suffix in (".csv", ".tsv"):
        return ""
    return "|".join(map(str, cell)) if isinstance(cell, list | tuple) and suffix in (".csv", ".tsv") else cell
