"""The record of a run: everything that `run.json` says of how a model was made. Report, card and commands read it."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path

import torch
from pydantic.dataclasses import dataclass

from polymodal._version import __version__
from polymodal.checkpoint.model_directory import read_json, write_json
from polymodal.core.record import RECORD_CONFIG, FiniteOrNone, read_record, record_json
from polymodal.data.leakage import SharedItems
from polymodal.evaluation.data_sets import ByDataSet
from polymodal.training.records import Epoch, SourceModelRecord

FILE = "run.json"


@dataclass(frozen=True, config=RECORD_CONFIG)
class Environment:
    """Versions of `polymodal`, `torch` and `python`, and the name of the `processor`."""

    polymodal: str
    torch: str
    python: str
    processor: str

    @classmethod
    def current(cls) -> Environment:
        """That of this process."""
        return cls(
            __version__, str(torch.__version__), platform.python_version(), platform.processor() or platform.machine()
        )


@dataclass(frozen=True, config=RECORD_CONFIG)
class ColumnRole:
    """What a column is used for.

    role: input, prompt, target, weight, column (of the split), group or ignored
    kind: the modality or task; reason: why
    of: the input or output that reads it
    """

    column: str
    role: str
    kind: str
    reason: str
    of: str = ""


@dataclass(frozen=True, config=RECORD_CONFIG)
class SplitRecord:
    """The name of the table that a part's rows are from, and their number."""

    table: str
    rows: int


@dataclass(frozen=True, config=RECORD_CONFIG)
class CellErrorCounts:
    """Cells that could not be used: how many in all (`count`), and by column."""

    count: int = 0
    by_column: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, config=RECORD_CONFIG)
class ParameterCounts:
    """Parameters of the network, and how many of them learned."""

    total: int = 0
    trainable: int = 0


@dataclass(frozen=True, config=RECORD_CONFIG)
class Durations:
    """How long training, preparation, and everything with scoring (`total`) took; 0 for what was not done."""

    training: float = 0.0
    preparation: float = 0.0
    total: float = 0.0


@dataclass(frozen=True, config=RECORD_CONFIG)
class ComputeRecord:
    """How steps were computed: number format, threads inside one operation, why, and on which device."""

    precision: str
    threads: int
    reason: str
    device: str


@dataclass(frozen=True, config=RECORD_CONFIG)
class TeacherRecord:
    """Whom the model learned from: a saved `model` (its directory), or one trained with `privileged` inputs before,
    whose epochs are its `history`."""

    model: str | None = None
    privileged: tuple[str, ...] = ()
    history: tuple[Epoch, ...] = ()


@dataclass(frozen=True, config=RECORD_CONFIG)
class PseudoLabelRound:
    """One training, and the labels that it began with. Round 0 has none.

    taken: rows that were given a label; by_class: how many of each class; changed: labels that differ from the round
        before
    temperature: by which the probabilities of the round before were calibrated
    threshold: the probability from which on labels were taken; None where none would do
    precision, precision_low: the share of such validation rows that are right, and the lower bound of it
    why: why no label was given, or why nothing was trained
    valid, valid_score: validation scores by `output.metric`, and the one number that rounds are compared by; None
        where nothing was trained
    """

    round: int
    taken: int = 0
    labels_by_class: dict[str, int] = field(default_factory=dict)
    changed: int = 0
    temperature: float | None = None
    threshold: float | None = None
    precision: float | None = None
    precision_low: float | None = None
    why: str | None = None
    valid: Mapping[str, FiniteOrNone] | None = None
    validation_score: FiniteOrNone = None


@dataclass(frozen=True, config=RECORD_CONFIG)
class PseudoLabelRecord:
    """Labels that the model gave itself.

    output: whose labels; unlabelled: training rows without one
    level: confidence of the lower bounds of precision
    kept: the round whose model was kept
    """

    output: str
    unlabeled: int
    level: float
    kept: int
    rounds: tuple[PseudoLabelRound, ...]


@dataclass(frozen=True, config=RECORD_CONFIG, kw_only=True)
class RunRecord:
    """How a model was made. Of a model that never ran, everything is empty.

    environment: versions and processor
    roles: what each column of the table is used for
    parts: table and number of rows of `train`, `valid` and `test`
    fingerprints: content hash of each table, by its name
    inputs: how each input was prepared, in words
    parameters: of the network
    seconds: how long it took
    compute: how steps were computed; None where nothing was trained
    steps: optimizer steps; rows_per_second: training rows, of the model that was kept
    averaged_epochs: the epochs whose weights are averaged, where several are
    history: one entry per epoch
    notices: sentences for the user on what may be wrong
    teacher, start, pseudo_labels: whom it learned from, what it went on from, and labels it gave itself; None where
        it did not
    task_notes: what a task says of its targets, by output
    shared_items: the same item in two parts
    faults: cells that could not be used
    data_sets: by part, output and data set, the scores, where the table is of several data sets
    """

    environment: Environment | None = None
    roles: tuple[ColumnRole, ...] = ()
    parts: dict[str, SplitRecord] = field(default_factory=dict)
    fingerprints: dict[str, str] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    parameters: ParameterCounts = field(default_factory=ParameterCounts)
    seconds: Durations = field(default_factory=Durations)
    compute: ComputeRecord | None = None
    steps: int = 0
    rows_per_second: float = 0.0
    averaged_epochs: tuple[int, ...] = ()
    history: tuple[Epoch, ...] = ()
    notices: tuple[str, ...] = ()
    teacher: TeacherRecord | None = None
    start: SourceModelRecord | None = None
    pseudo_labels: PseudoLabelRecord | None = None
    task_notes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    shared_items: tuple[SharedItems, ...] = ()
    cell_errors: CellErrorCounts = field(default_factory=CellErrorCounts)
    data_sets: dict[str, ByDataSet] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write `run.json` into a model directory."""
        write_json(folder / FILE, record_json(self))

    @classmethod
    def read(cls, folder: Path) -> RunRecord:
        """The record of a model directory; an empty one where there is none.

        Raises:
            ArtifactError: the file cannot be read, or a key is not known or has another type.
        """
        path = folder / FILE
        return read_record(cls, read_json(path), path) if path.is_file() else cls()
