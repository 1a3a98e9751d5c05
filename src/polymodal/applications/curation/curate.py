"""Curate a data set with a model: near-duplicates of every input, and pairs that do not belong together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import numpy as np

from polymodal.applications.curation.duplicates import near_duplicates
from polymodal.applications.curation.mismatches import mismatched
from polymodal.applications.curation.page import write_curation
from polymodal.applications.curation.results import Curation, Rows
from polymodal.core.errors import RecipeError, nearest
from polymodal.core.paths import media_folder, scratch
from polymodal.core.progress import Progress
from polymodal.data.partition import Split
from polymodal.data.store.items import Prepared
from polymodal.data.table.cell_errors import Faults, warn_of_faults
from polymodal.data.table.table import Table
from polymodal.model.model import Model

Finding = Literal["duplicates", "mismatches"]


@dataclass(frozen=True)
class CurationOptions:
    """What curation looks for.

    find: duplicates, mismatches or both; None: duplicates, and mismatches where the model has aligned some of `inputs`
    inputs: whose duplicates to look for; None: of all
    threshold: cosine similarity of near-duplicates; None chooses it from the data
    rate: share of right pairs among the listed mismatches that is accepted
    """

    find: Sequence[Finding] | None = None
    inputs: Sequence[str] | None = None
    threshold: float | None = None
    rate: float = 0.1


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
) -> Curation:
    """Find near-duplicates (see `near_duplicates`) and mismatched pairs (see `mismatched`) with a model's embeddings.

    data: the table, as for `Model.predict`; targets are not read
    against: a second table, as test rows are to training rows; what stands in both is named as a leak
    options: what to look for; None: the defaults of `CurationOptions`
    out: folder for `duplicates.jsonl`, `mismatches.jsonl` and `curation.html`

    Raises:
        RecipeError: there is no such input; mismatches are asked for, and no objective of the model aligns inputs.
        DataError: a column is not there, too few rows have both inputs of a pair, or (strict) a cell cannot be used.
    """
    wanted = options or CurationOptions()
    names, pairs = _looked_at(model, wanted)
    used = list(dict.fromkeys([*names, *(name for pair in pairs for name in pair)]))
    sources = [("data", data), *([("against", against)] if against is not None else [])]
    bar = Progress(progress)
    with _rows(model, sources, used, root, strict, bar) as rows:
        vectors = _embedded(model, rows, used, bar)
        parts = np.repeat(rows.names, np.diff(rows.starts)) if len(rows.names) > 1 else None
        found = Curation(
            {
                name: near_duplicates(vectors[name], items=rows.index[name], threshold=wanted.threshold, parts=parts)
                for name in names
            },
            {
                (one, other): mismatched(
                    vectors[one],
                    vectors[other],
                    first_items=rows.index[one],
                    second_items=rows.index[other],
                    rate=wanted.rate,
                    seed=model.recipe.seed,
                )
                for one, other in pairs
            },
            seen=_trained_on(model, rows.tables),
        )
        if out is not None:
            write_curation(Path(out), found, rows)
    return found


def _looked_at(model: Model, options: CurationOptions) -> tuple[list[str], list[tuple[str, str]]]:
    """The inputs whose duplicates are sought, and the pairs of inputs whose mismatches are.

    Raises:
        RecipeError: there is no such input; mismatches are asked for, and no objective of the model aligns inputs.
    """
    alignment, find = model.alignment, options.find
    names = list(options.inputs) if options.inputs is not None else list(model.recipe.inputs)
    for name in names:
        if name not in model.recipe.inputs:
            raise RecipeError("inputs", f"there is no input {name!r}; {nearest(name, model.recipe.inputs)}")
    if find is None:
        return names, [] if alignment is None else [pair for pair in alignment.pairs if set(pair) <= set(names)]
    if "mismatches" in find and alignment is None:
        raise RecipeError(
            "objectives",
            "no objective of this model aligns inputs, so it cannot say whether two of them fit; "
            "train one with `polymodal pretrain --objective contrastive`",
        )
    pairs = alignment.pairs if alignment is not None and "mismatches" in find else []
    return names if "duplicates" in find else [], pairs


@contextmanager
def _rows(
    model: Model, sources: list[tuple[str, Any]], names: list[str], root: Any, strict: bool, bar: Progress
) -> Iterator[Rows]:
    preparation = model.preparation.inputs_only(names)
    untargeted = preparation.recipe.data.model_copy(update={"weight": None})
    preparation.recipe = preparation.recipe.model_copy(update={"data": untargeted})
    faults = Faults(strict)
    with scratch() as folder:
        tables, prepared = [], []
        for name, data in sources:
            table = model.open_columns(data, root, preparation.input_columns)
            with bar.task(f"prepare {table.name}", len(table)) as advance:
                prepared.append(
                    preparation.prepare(table, faults, folder=folder / name, cache=media_folder(), advance=advance)
                )
            tables.append(table)
        starts = [0, *accumulate(len(table) for table in tables)]
        index = {name: joined([one.inputs[name] for one in prepared]) for name in names}
        yield Rows([name for name, _ in sources], tables, prepared, preparation, starts, index)
    warn_of_faults(faults.found)


def joined(prepared: list[Prepared]) -> np.ndarray:
    """The item of each row of several tables: one number for equal contents, -1 where a row lacks the input."""
    numbers: dict[bytes, int] = {}
    parts, unnamed = [], 0
    for one in prepared:
        if one.keys is None:
            number = unnamed + np.arange(len(one.items))
            unnamed += len(one.items)
        else:
            number = np.array([numbers.setdefault(key, len(numbers)) for key in one.keys], dtype=np.int64)
        parts.append(np.where(one.index >= 0, np.append(number, -1)[one.index], -1))
    return np.concatenate(parts)


def _embedded(model: Model, rows: Rows, names: list[str], bar: Progress) -> dict[str, np.ndarray]:
    """By input, `[rows, size]` over all tables."""
    parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for name in names:
        predictor = model.predictor.for_inputs([name])
        for prepared, table in zip(rows.prepared, rows.tables, strict=True):
            with bar.task(f"embed {name} of {table.name}", None):
                found = predictor.embed(Split.whole(prepared.only([name])), [name])
            parts[name].append(found[name])
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def _trained_on(model: Model, tables: list[Table]) -> bool:
    known = set(model.run.fingerprints.values())
    return any(table.fingerprint() in known for table in tables)
