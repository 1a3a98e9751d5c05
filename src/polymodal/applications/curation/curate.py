"""Curate a data set with a model: near-duplicates of every input, mismatched pairs of inputs, and wrong labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import numpy as np

from polymodal.applications.curation.duplicates import find_near_duplicates
from polymodal.applications.curation.label_issues import find_label_issues
from polymodal.applications.curation.mismatches import find_mismatches
from polymodal.applications.curation.report import FILES, write_curation_report
from polymodal.applications.curation.results import CurationResult, CurationRows
from polymodal.checkpoint.output_file import check_reports, paths_in
from polymodal.core.argument_types import check_arguments
from polymodal.core.errors import RecipeError, did_you_mean
from polymodal.core.paths import media_cache_folder, scratch_folder
from polymodal.core.progress import Progress
from polymodal.data.partition import Split
from polymodal.data.store.items import PreparedInput
from polymodal.data.table.cell_errors import CellErrors, warn_cell_errors
from polymodal.data.table.table import Table
from polymodal.model.model import Model

CurationCheck = Literal["duplicates", "mismatches", "labels"]


@dataclass(frozen=True)
class CurationOptions:
    """Options of `curate`.

    find: duplicates, mismatches, labels, or several of them; default: duplicates, and mismatches if the model has
        aligned some of `inputs`; labels if the model has no network
    inputs: inputs to search for duplicates; default: all
    threshold: minimum cosine similarity of near-duplicates; default: chosen from the data
    false_discovery_rate: accepted fraction of matching pairs among the flagged mismatches
    folds: number of folds in which the recipe of the model is trained again to check labels
    overwrite: replace the files of an earlier report
    """

    find: Sequence[CurationCheck] | None = None
    inputs: Sequence[str] | None = None
    threshold: float | None = None
    false_discovery_rate: float = 0.1
    folds: int = 5
    overwrite: bool = False


@check_arguments
def curate(
    model: Model,
    data: Any,
    options: CurationOptions | None = None,
    *,
    against: Any = None,
    out: Path | str | None = None,
    root: Path | str | None = None,
    strict: bool = False,
    progress: bool = False,
) -> CurationResult:
    """Find near-duplicates (see `find_near_duplicates`) and mismatched pairs (see `find_mismatches`) by a model's
    embeddings, and labels that are probably wrong (see `find_label_issues`) by its recipe.

    data: the table, as in `Model.predict`; targets are read only to check labels
    against: a second table, for example the test rows; duplicates between both tables are reported as leaks
    options: default: `CurationOptions()`
    out: folder for `duplicates.jsonl`, `mismatches.jsonl`, `labels.jsonl` and `curation.html`

    Raises:
        RecipeError: the model has no such input; `find` contains mismatches and no objective of the model aligns
            inputs; it contains duplicates and the model has no network; it contains labels and no output has any.
        DataError: a column is missing, too few rows have both inputs of a pair, or (strict) a cell cannot be used.
        OutputError: a file of the report exists and `options.overwrite` is not set, or it cannot be written.
    """
    options = options or CurationOptions()
    if out is not None:
        check_reports(Path(out), FILES, overwrite=options.overwrite, inputs=paths_in(data, against))
    if options.find is None and not model.has_network:
        options = replace(options, find=["labels"])
    names, pairs = _inputs_and_pairs(model, options)
    embedded = list(dict.fromkeys([*names, *(name for pair in pairs for name in pair)]))
    if embedded:
        model.network  # noqa: B018  # raises before anything is computed
    labels = {}
    if "labels" in (options.find or []):
        table = model.open(data, root, targets=True)
        labels = find_label_issues(model, table, folds=options.folds, progress=progress)
    sources = [("data", data), *([("against", against)] if against is not None else [])]
    bar = Progress(progress)
    with _prepare_rows(model, sources, embedded or list(model.recipe.inputs), root, strict, bar) as rows:
        vectors = _embed_inputs(model, rows, embedded, bar)
        parts = np.repeat(rows.names, np.diff(rows.starts)) if len(rows.names) > 1 else None
        found = CurationResult(
            {
                name: find_near_duplicates(
                    vectors[name], items=rows.index[name], threshold=options.threshold, sources=parts
                )
                for name in names
            },
            {
                (one, other): find_mismatches(
                    vectors[one],
                    vectors[other],
                    first_items=rows.index[one],
                    second_items=rows.index[other],
                    false_discovery_rate=options.false_discovery_rate,
                    seed=model.recipe.seed,
                )
                for one, other in pairs
            },
            trained_on=_trained_on(model, rows.tables),
            labels=labels,
        )
        if out is not None:
            write_curation_report(Path(out), found, rows)
    return found


def _inputs_and_pairs(model: Model, options: CurationOptions) -> tuple[list[str], list[tuple[str, str]]]:
    """The inputs to search for duplicates, and the pairs of inputs to search for mismatches.

    Raises:
        RecipeError: the model has no such input; `find` contains mismatches and no objective of the model aligns
            inputs.
    """
    alignment, find = model.alignment, options.find
    names = list(options.inputs) if options.inputs is not None else list(model.recipe.inputs)
    for name in names:
        if name not in model.recipe.inputs:
            raise RecipeError("inputs", f"the model has no input {name!r}; {did_you_mean(name, model.recipe.inputs)}")
    if find is not None and not {"duplicates", "mismatches"} & set(find):
        return [], []
    if find is None:
        return names, [] if alignment is None else [pair for pair in alignment.input_pairs if set(pair) <= set(names)]
    if "mismatches" in find and alignment is None:
        raise RecipeError(
            "objectives",
            "mismatches need a model that was trained with an alignment objective; "
            "train one with `polymodal pretrain --objective contrastive`",
        )
    pairs = alignment.input_pairs if alignment is not None and "mismatches" in find else []
    return names if "duplicates" in find else [], pairs


@contextmanager
def _prepare_rows(
    model: Model, sources: list[tuple[str, Any]], names: list[str], root: Any, strict: bool, bar: Progress
) -> Iterator[CurationRows]:
    preparation = model.preparation.inputs_only(names)
    unweighted = preparation.recipe.data.model_copy(update={"weight_column": None})
    preparation.recipe = preparation.recipe.model_copy(update={"data": unweighted})
    cell_errors = CellErrors(strict)
    with scratch_folder() as folder:
        tables, prepared = [], []
        for name, data in sources:
            table = model.open_columns(data, root, preparation.input_columns)
            with bar.task(f"prepare {table.name}", len(table)) as advance:
                prepared.append(
                    preparation.prepare(
                        table, cell_errors, folder=folder / name, cache=media_cache_folder(), advance=advance
                    )
                )
            tables.append(table)
        starts = [0, *accumulate(len(table) for table in tables)]
        index = {name: item_ids([one.inputs[name] for one in prepared]) for name in names}
        yield CurationRows([name for name, _ in sources], tables, prepared, preparation, starts, index)
    warn_cell_errors(cell_errors.errors)


def item_ids(prepared: list[PreparedInput]) -> np.ndarray:
    """The item of each row of several tables: equal contents have the same number; -1 for rows without the input."""
    numbers: dict[bytes, int] = {}
    parts, unnamed = [], 0
    for one in prepared:
        if one.content_keys is None:
            number = unnamed + np.arange(len(one.items))
            unnamed += len(one.items)
        else:
            number = np.array([numbers.setdefault(key, len(numbers)) for key in one.content_keys], dtype=np.int64)
        parts.append(np.where(one.index >= 0, np.append(number, -1)[one.index], -1))
    return np.concatenate(parts)


def _embed_inputs(model: Model, rows: CurationRows, names: list[str], bar: Progress) -> dict[str, np.ndarray]:
    """The embeddings `[rows, dim]` of each input, over all tables."""
    parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for name in names:
        predictor = model.predictor.for_inputs([name])
        for prepared, table in zip(rows.prepared, rows.tables, strict=True):
            with bar.task(f"embed {name} of {table.name}", None):
                found = predictor.embed(Split.all_rows(prepared.select_inputs([name])), [name])
            parts[name].append(found[name])
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def _trained_on(model: Model, tables: list[Table]) -> bool:
    known = set(model.run.fingerprints.values())
    return any(table.fingerprint() in known for table in tables)
