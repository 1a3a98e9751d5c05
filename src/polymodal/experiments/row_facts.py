"""Notes on the rows of a run before it trains: rows and groups that splits share, and class labels that look alike."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from polymodal.core.errors import PolymodalWarning
from polymodal.core.formatting import count_noun, split_name, truncate
from polymodal.data.partition import group_values
from polymodal.evaluation.training_rows import TrainingRows
from polymodal.experiments.experiment import Experiment

#: Groups that a note names.
MAX_EXAMPLES = 3


class RowsWarning(PolymodalWarning):
    """The rows of a run are used as they are, but their scores may not be what they seem."""


@dataclass(frozen=True)
class RowFacts:
    """The record of the training rows, and the notes about the rows, one sentence each."""

    training_rows: TrainingRows
    notes: tuple[str, ...]


def row_facts(experiment: Experiment) -> RowFacts:
    """The facts about the rows of an experiment."""
    train, preparation = experiment.tables["train"], experiment.preparation
    columns = preparation.input_columns + preparation.target_columns
    trained = TrainingRows.of(train, columns, train.table.fingerprint())
    notes = _straddling_groups(experiment)
    for name, split in experiment.tables.items():
        if split.table is train.table or not preparation.tasks:
            continue
        rows = trained.count_in(split.table, split.table, columns)
        if rows:
            kind = split_name(name)
            notes.append(f"{rows:,} of {count_noun(len(split), f'{kind} row')} are training rows too")
    for task in preparation.tasks.values():
        notes += task.warnings
    notes += _shortened_items(experiment)
    return RowFacts(trained, tuple(notes))


def _shortened_items(experiment: Experiment) -> list[str]:
    """A note for each input and table with items that are longer than a limit."""
    tables = {id(split.table): split.table for split in experiment.splits.values()}
    parts = {id(experiment.splits[name].table): split.table.name for name, split in experiment.tables.items()}
    notes = []
    for key, table in tables.items():
        for name, prepared in table.inputs.items():
            if sentence := experiment.preparation.modalities[name].shortened(prepared):
                notes.append(f"input {name!r} of {parts[key]}: {sentence}")
    return notes


def _straddling_groups(experiment: Experiment) -> list[str]:
    """A note for each two splits that share groups, which happens only with given splits."""
    column = experiment.recipe.data.split.group_column
    if column is None:
        return []
    groups = {name: group_values(split.table, column, split.rows) for name, split in experiment.tables.items()}
    notes = []
    for first, second in combinations(groups, 2):
        shared = set(groups[first]) & set(groups[second]) - {None}
        if shared:
            rows = int(np.sum([one in shared for one in groups[second]]))
            names = [truncate(one, 40) for one in sorted(shared, key=str)[:MAX_EXAMPLES]]
            some = ", ".join([*names, *(["..."] if len(shared) > len(names) else [])])
            notes.append(
                f"{count_noun(len(shared), 'group')} of column {column!r} ({some}) in both the {split_name(first)} and "
                f"the {split_name(second)} rows ({count_noun(rows, 'row')}): the {split_name(second)} scores do not "
                "tell how the model does on new groups"
            )
    return notes
