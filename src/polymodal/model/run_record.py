"""The content of `run.json`: how a model was trained. Reports, model cards and commands read it."""

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
from polymodal.evaluation.training_rows import TrainingRows
from polymodal.runtime.cpu_kernels import processor_name
from polymodal.training.records import Epoch, SourceModelRecord

FILE = "run.json"


@dataclass(frozen=True, config=RECORD_CONFIG)
class Environment:
    """Versions of `polymodal`, `torch` and `python`, and the name and instructions of the `processor`."""

    polymodal: str
    torch: str
    python: str
    processor: str

    @classmethod
    def current(cls) -> Environment:
        """The environment of this process."""
        return cls(__version__, str(torch.__version__), platform.python_version(), processor_name())


#: Why a column is ignored if the user left it out.
IGNORED_BY_NAME, NOT_LISTED = "named in data.ignore_columns", "not an input of the recipe"


@dataclass(frozen=True, config=RECORD_CONFIG)
class ColumnRole:
    """The role of a column.

    role: `input`, `prompt`, `target`, `weight_column`, `column` (of the split), `group_column` or `ignored`
    kind: the modality or task
    reason: why the column has this role
    used_by: the input or output that reads the column
    """

    column: str
    role: str
    kind: str
    reason: str
    used_by: str = ""

    @property
    def is_left_out(self) -> bool:
        """Whether the column is ignored though the user did not leave it out."""
        return self.role == "ignored" and self.reason not in (IGNORED_BY_NAME, NOT_LISTED)


@dataclass(frozen=True, config=RECORD_CONFIG)
class SplitRecord:
    """The table of a split, its number of rows, and the content hash of the table."""

    table: str
    rows: int
    fingerprint: str = ""


@dataclass(frozen=True, config=RECORD_CONFIG)
class CellErrorCounts:
    """The number of unusable cells in total (`count`) and by column.

    bad_columns: sentences about the columns with many unusable cells, by column
    """

    count: int = 0
    by_column: dict[str, int] = field(default_factory=dict)
    bad_columns: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, config=RECORD_CONFIG)
class ParameterCounts:
    """The total number of parameters, and the number of trainable ones."""

    total: int = 0
    trainable: int = 0


@dataclass(frozen=True, config=RECORD_CONFIG)
class Durations:
    """Seconds of training, preparation, and the whole run with scoring (`total`); 0 for a step that did not run."""

    training: float = 0.0
    preparation: float = 0.0
    total: float = 0.0


@dataclass(frozen=True, config=RECORD_CONFIG)
class ComputeRecord:
    """The compute configuration: precision, intra-op threads, the reason for the choice, and the device.

    features: number format of the frozen layers and their stored features; empty without stored features
    """

    precision: str
    threads: int
    reason: str
    device: str
    features: str = ""


@dataclass(frozen=True, config=RECORD_CONFIG)
class TeacherRecord:
    """The teacher of a distillation: the directory of a saved `model`, or a model trained with `privileged` inputs.

    history: the epochs of a teacher with privileged inputs
    """

    model: str | None = None
    privileged: tuple[str, ...] = ()
    history: tuple[Epoch, ...] = ()


@dataclass(frozen=True, config=RECORD_CONFIG)
class MemberRecord:
    """A member that was compared with the others.

    inputs: the inputs that it reads; all if empty
    loss: by output, the mean loss of its calibrated out-of-fold predictions: cross-entropy, or squared error of
        standardized numbers
    weight: by output, its weight in the combination; 0 if it is not used
    seconds: time of fitting and out-of-fold prediction
    """

    name: str
    inputs: tuple[str, ...]
    loss: dict[str, float]
    weight: dict[str, float]
    seconds: float


@dataclass(frozen=True, config=RECORD_CONFIG)
class PseudoLabelRound:
    """One round of self-training, and its pseudo-labels. Round 0 has no pseudo-labels.

    num_labels: number of pseudo-labels
    labels_by_class: number of pseudo-labels by class
    num_changed: number of pseudo-labels that differ from the previous round
    temperature: calibration temperature of the previous round's probabilities
    threshold: the minimum probability of a pseudo-label; None if no threshold reaches the wanted precision
    precision, precision_low: the precision above the threshold on validation rows, and its lower bound
    reason: why there are no pseudo-labels, or why the round was not trained
    validation, validation_score: validation scores by `output.metric`, and the score that selects the best round; None
        if the round was not trained
    """

    round: int
    num_labels: int = 0
    labels_by_class: dict[str, int] = field(default_factory=dict)
    num_changed: int = 0
    temperature: float | None = None
    threshold: float | None = None
    precision: float | None = None
    precision_low: float | None = None
    reason: str | None = None
    validation: Mapping[str, FiniteOrNone] | None = None
    validation_score: FiniteOrNone = None


@dataclass(frozen=True, config=RECORD_CONFIG)
class PseudoLabelRecord:
    """The pseudo-labels of a run.

    output: the output with pseudo-labels
    unlabeled: number of training rows without a label
    confidence_level: confidence level of the lower bounds of precision
    selected_round: the round whose model was selected
    """

    output: str
    unlabeled: int
    confidence_level: float
    selected_round: int
    rounds: tuple[PseudoLabelRound, ...]


@dataclass(frozen=True, config=RECORD_CONFIG, kw_only=True)
class RunRecord:
    """How a model was trained. Every field of an untrained model is empty.

    environment: versions and processor
    roles: the role of each column of the table
    splits: table and number of rows of `train`, `validation` and `test`
    fingerprints: content hash of each table by name
    inputs: a description of the preparation of each input
    parameters: number of parameters
    seconds: durations of the run
    compute: compute configuration; None if nothing was trained
    steps: optimizer steps of the selected model
    rows_per_second: training rows per second of the selected model
    averaged_epochs: the epochs whose weights are averaged; empty if one epoch was selected
    annealed_from: the epoch to which an early stop went back, and whose weights were annealed; 0 without one
    history: one entry per epoch
    notices: warnings for the user
    teacher, source_model, pseudo_labels: records of distillation, weight transfer and self-training; None if not used
    task_notes: notes of each task about its targets, by output
    training_rows: hashes of the training rows, by which they are recognized in other tables
    data_notes: notes on the rows: groups and rows that splits share, class labels that look alike
    shared_items: items that occur in two splits
    cell_errors: number of unusable cells
    data_sets: scores by split, output and data set, if the table has several data sets
    members: the members that were compared, also those without a weight; empty for a network alone
    single_input: the input whose model is returned because it validates better than that of all inputs; else empty
    """

    environment: Environment | None = None
    roles: tuple[ColumnRole, ...] = ()
    splits: dict[str, SplitRecord] = field(default_factory=dict)
    fingerprints: dict[str, str] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    parameters: ParameterCounts = field(default_factory=ParameterCounts)
    seconds: Durations = field(default_factory=Durations)
    compute: ComputeRecord | None = None
    steps: int = 0
    rows_per_second: float = 0.0
    averaged_epochs: tuple[int, ...] = ()
    annealed_from: int = 0
    history: tuple[Epoch, ...] = ()
    notices: tuple[str, ...] = ()
    teacher: TeacherRecord | None = None
    source_model: SourceModelRecord | None = None
    pseudo_labels: PseudoLabelRecord | None = None
    task_notes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    training_rows: TrainingRows = field(default_factory=TrainingRows)
    data_notes: tuple[str, ...] = ()
    shared_items: tuple[SharedItems, ...] = ()
    cell_errors: CellErrorCounts = field(default_factory=CellErrorCounts)
    data_sets: dict[str, ByDataSet] = field(default_factory=dict)
    members: tuple[MemberRecord, ...] = ()
    single_input: str = ""

    def write(self, folder: Path) -> None:
        """Write `run.json` into a model directory."""
        write_json(folder / FILE, record_json(self))

    @classmethod
    def read(cls, folder: Path) -> RunRecord:
        """The record in a model directory.

        Raises:
            ArtifactError: the file cannot be read, or a key is unknown or has the wrong type.
        """
        path = folder / FILE
        return read_record(cls, read_json(path), path)
