"""`FewShot`: a classifier fitted on a few labeled rows, on the embeddings of a model."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
from pydantic import FiniteFloat
from scipy.special import softmax

from polymodal._version import __version__
from polymodal.applications.few_shot.classifier_task import EmbeddingClassifierTask, read_target, score_classification
from polymodal.applications.few_shot.heads import HEADS, FewShotHead, LinearProbe, Prototypes, TipAdapter
from polymodal.applications.few_shot.zero_shot import ZeroShot, aligned_inputs
from polymodal.checkpoint.directory_kinds import FEW_SHOT
from polymodal.checkpoint.model_directory import (
    MANIFEST,
    file_sha256,
    read_json,
    unsigned,
    verify_file,
    write_signed,
)
from polymodal.checkpoint.output_directory import OutputDirectory
from polymodal.checkpoint.reading import parsing, read_tensors
from polymodal.checkpoint.tensor_files import write_tensors
from polymodal.core.argument_types import check_arguments
from polymodal.core.errors import ArtifactError, DataError, RecipeError, did_you_mean
from polymodal.core.options import StrictModel
from polymodal.core.record import read_record
from polymodal.data.table.cell_error_summary import summarize_reasons
from polymodal.data.table.cell_errors import CellErrors, warn_cell_errors
from polymodal.data.table.table import Table
from polymodal.model.answer_forms import shaped_probabilities, shaped_values
from polymodal.model.embedding import embed_table
from polymodal.model.model import Model
from polymodal.tasks.base import Task
from polymodal.tasks.classification import ClassificationState

FILE, ARRAYS = "few_shot.json", "head.safetensors"
FORMAT: Final = 3

HeadName = Literal["prototypes", "linear", "tip"]


class HeadRecord(StrictModel):
    """The content of `few_shot.json`.

    model: the directory of the model, relative to that of the classifier
    manifest: the SHA-256 of the manifest of the model
    task: the state of the task
    sha256: the SHA-256 of the file with the arrays
    """

    format: Literal[3] = FORMAT
    polymodal: str = __version__
    model: str
    manifest: str
    head: HeadName
    hyperparameters: dict[str, FiniteFloat]
    input: str | None
    target: str
    task: ClassificationState
    sha256: dict[str, str]


class FewShot:
    """A classifier head on the embeddings of a model, fitted on a few labeled rows. The model is not changed.

    Create it with `FewShot.fit` or `FewShot.load`. It predicts like a `Model`.

    input: the embedded input; None: the whole row
    model_folder: the directory of the model, if it has one
    """

    @check_arguments
    def __init__(
        self, model: Model, head: FewShotHead, task: EmbeddingClassifierTask, *, input: str | None, folder: Path | None
    ) -> None:
        self.model, self.head, self.task, self.input, self.model_folder = model, head, task, input, folder

    @classmethod
    @check_arguments
    def fit(
        cls,
        model: Model | Path | str,
        rows: Any,
        target: str | int,
        head: HeadName = "prototypes",
        input: str | None = None,
        *,
        descriptions: Mapping[str, str | Sequence[str]] | None = None,
        templates: Sequence[str] | None = None,
        root: Path | str | None = None,
        strict: bool = False,
    ) -> FewShot:
        """Fit a classifier of the column `target` on labeled rows; `heads` describes the heads.

        model: a model, or the directory of one
        rows, root, strict: as in `Model.evaluate`; rows without the target or the input are skipped
        input: the input to embed; default: the whole row. For `tip`, the input that is aligned with texts.
        descriptions, templates: only for `tip`, the texts of the classes as in `ZeroShot`; default: their names

        Raises:
            RecipeError: there is no such head or input; class texts are given for a head other than `tip`.
            DataError: a column is missing; fewer than two classes have rows; (strict) a cell cannot be used.
            PolymodalError: the head is `tip`, and the model has not aligned texts with the input.
        """
        target = str(target)  # a frame may name its columns by whole numbers
        if head not in HEADS:
            raise RecipeError("head", f"unknown head {head!r}; {did_you_mean(head, HEADS)}")
        if head != "tip" and (descriptions or templates):
            raise RecipeError("templates" if templates else "descriptions", f"the head {head!r} uses no class texts")
        folder = Path(model) if isinstance(model, Path | str) else None
        model = Model.load(model) if isinstance(model, Path | str) else model
        if head == "tip":
            input, _ = aligned_inputs(model, input, None)
        table = model.open_columns(rows, root, [*_columns(model, input), target])
        task, cell_errors = EmbeddingClassifierTask(target), CellErrors(strict)
        value, present = read_target(task, table, cell_errors, fit=True)
        zero_shot = _zero_shot(model, task, descriptions, templates, input) if head == "tip" else None
        features = embed_table(model.predictor, table, input, None, None, cell_errors).astype(np.float64)
        known = present & ~np.isnan(features).any(1)
        if not known.any():
            reasons = summarize_reasons(cell_errors.errors) or "the cells are empty"
            raise DataError(f"no row has both a class and a usable input. {reasons}", column=target, file=table.name)
        warn_cell_errors(cell_errors.errors)
        missing = set(range(task.output_size)) - set(value[known].tolist())
        if missing:
            name = task.classes[min(missing)]
            raise DataError(f"no row of the class {name!r} has the input", column=target)
        return cls(
            model, _fit_head(head, features[known], value[known], task, zero_shot), task, input=input, folder=folder
        )

    @property
    def classes(self) -> list[str]:
        """The classes in the order of columns of `predict_proba`."""
        return self.task.classes

    @property
    def tasks(self) -> dict[str, Task]:
        """The single output, as in `Model.tasks`."""
        return {self.task.columns[0]: self.task}

    @check_arguments
    def predict_proba(self, data: Any, *, root: Path | str | None = None, strict: bool = False) -> Any:
        """Probabilities `[rows, k]` in the order of `classes`; NaN for rows without the input. An array, or a frame of
        the kind of `data`, as in `Model.predict_proba`.

        data, root, strict: as in `Model.predict`; only the columns of the input are read
        """
        (name,) = self.task.columns
        found = self._probabilities(data, root, strict)
        return shaped_probabilities(data, {name: found}, {name: self.task.class_labels})

    @check_arguments
    def predict(self, data: Any, *, root: Path | str | None = None, strict: bool = False) -> Any:
        """The predicted class of each row, in the form of `Model.predict`; None for rows without the input."""
        (name,) = self.task.columns
        return shaped_values(data, {name: self.task.predict(self._probabilities(data, root, strict))})

    def _probabilities(self, data: Any, root: Path | str | None, strict: bool) -> np.ndarray:
        vectors = self.model.embed(data, input=self.input, root=root, strict=strict)
        return softmax(self.head.logits(vectors.astype(np.float64)), axis=1)

    @check_arguments
    def evaluate(self, data: Any, *, root: Path | str | None = None, strict: bool = False) -> dict[str, Any]:
        """Scores on labeled rows, by output and metric as in `Model.evaluate`; see `score_classification`."""
        target = self.task.columns[0]
        table, cell_errors = self.open(data, root, targets=True), CellErrors(strict)
        value, present = read_target(self.task, table, cell_errors)
        warn_cell_errors(cell_errors.errors)
        probabilities = self._probabilities(table, None, strict)
        return {target: score_classification(self.task, self.model, probabilities, value, present)}

    @check_arguments
    def open(self, data: Any, root: Path | str | None = None, *, targets: bool = False) -> Table:
        """Open `data` as a table with the columns of the input (and the target)."""
        columns = [*_columns(self.model, self.input), *(self.task.columns if targets else [])]
        return self.model.open_columns(data, root, columns)

    @check_arguments
    def stream(self, table: Table, cell_errors: CellErrors) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        """Row numbers and their probabilities, as in `Model.stream`, in a single block."""
        probabilities = self._probabilities(table, None, cell_errors.strict)
        yield np.arange(len(table)), {self.task.columns[0]: probabilities}

    @check_arguments
    def save(self, folder: Path | str, *, overwrite: bool = False) -> Path:
        """Write `few_shot.json` and `head.safetensors` to `folder`. A model loaded from a directory is referenced by
        its relative path and checksum; a model in memory, or in `folder` itself, is saved to `folder/model`.

        overwrite: replace an existing classifier; it is unchanged until the new one is complete

        Raises:
            OutputError: as `Model.save`.
        """
        folder = Path(folder)
        with OutputDirectory(folder, FEW_SHOT, overwrite).writing() as work:
            self._write_files(work, folder.resolve())
        return folder

    def _write_files(self, work: Path, folder: Path) -> None:
        """Write the files into `work`, which will be `folder`."""
        model_folder = None if self.model_folder is None else self.model_folder.resolve()
        if model_folder is None or model_folder.is_relative_to(folder):
            model_folder, shown = self.model.save(work / "model"), "model"
        else:
            shown = os.path.relpath(model_folder, folder)
        arrays, hyperparameters = self.head.state()
        write_tensors(work / ARRAYS, {name: torch.from_numpy(array) for name, array in arrays.items()})
        record = {
            "format": FORMAT,
            "polymodal": __version__,
            "model": shown,
            "manifest": file_sha256(model_folder / "manifest.json"),
            "head": self.head.name,
            "hyperparameters": hyperparameters,
            "input": self.input,
            "target": self.task.columns[0],
            "task": self.task.save(),
            "sha256": {ARRAYS: file_sha256(work / ARRAYS)},
        }
        write_signed(work / FILE, record)

    @classmethod
    @check_arguments
    def load(cls, folder: Path | str, model: Path | str | None = None) -> FewShot:
        """Load a head that was written by `save`.

        model: the directory of the model, if it was moved

        Raises:
            ArtifactError: a file is missing, was modified, or has a newer format; the head was fitted on another model.
        """
        folder = Path(folder)
        if not (folder / FILE).is_file():
            raise ArtifactError(f"{folder} contains no few-shot head: {FILE} is missing")
        path = folder / FILE
        values = read_json(path)
        if isinstance(values, dict) and values.get("format") != FORMAT:
            raise ArtifactError(f"{path} has a format that this version of polymodal cannot read; fit the head again")
        record = read_record(HeadRecord, unsigned(values, path), path)
        model_folder = Path(model) if model is not None else folder / record.model
        if not (model_folder / MANIFEST).is_file():
            raise ArtifactError(f"the model of {folder} is not in {model_folder}; pass its new directory as `model`")
        if file_sha256(model_folder / MANIFEST) != record.manifest:
            raise ArtifactError(f"{model_folder} is not the model that {folder} was fitted on; fit the head again")
        verify_file(folder, ARRAYS, record.sha256.get(ARRAYS, ""))
        loaded = Model.load(model_folder)
        with parsing(path):
            task = EmbeddingClassifierTask(record.target)
            task.load(dict(record.task))
            arrays = {name: tensor.numpy() for name, tensor in read_tensors(folder / ARRAYS).items()}
            head = HEADS[record.head].from_state(arrays, record.hyperparameters)
            _columns(loaded, record.input)
        return cls(loaded, head, task, input=record.input, folder=model_folder)


def _columns(model: Model, input: str | None) -> list[str]:
    """The columns that the embedding of `input` reads.

    Raises:
        RecipeError: the model has no such input.
    """
    inputs = model.recipe.inputs
    if input is None:
        return model.preparation.input_columns
    if input not in inputs:
        raise RecipeError("input", f"the model has no input {input!r}; {did_you_mean(input, inputs)}")
    return inputs[input].columns


def _zero_shot(
    model: Model,
    task: EmbeddingClassifierTask,
    descriptions: Mapping[str, str | Sequence[str]] | None,
    templates: Sequence[str] | None,
    input: str | None,
) -> ZeroShot:
    """The zero-shot classifier of the classes of `task`.

    Raises:
        RecipeError: the described classes are not those of the labeled rows.
    """
    if descriptions is not None and sorted(descriptions) != sorted(task.classes):
        raise RecipeError(
            "descriptions", f"they describe {sorted(descriptions)}, but the rows have {sorted(task.classes)}"
        )
    return ZeroShot(model, descriptions or task.classes, input=input, templates=templates)


def _fit_head(
    head: str, features: np.ndarray, target: np.ndarray, task: EmbeddingClassifierTask, zero_shot: ZeroShot | None
) -> FewShotHead:
    if head == "linear":
        return LinearProbe.fit(features, target, task.output_size)
    if zero_shot is None:
        return Prototypes.fit(features, target, task.output_size)
    texts = zero_shot.class_embeddings[[zero_shot.classes.index(name) for name in task.classes]]
    return TipAdapter.fit(features, target, task.output_size, class_embeddings=texts, scale=zero_shot.logit_scale)
