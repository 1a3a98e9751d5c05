"""Ensembles: separately trained models whose predictions are combined."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from polymodal._version import __version__
from polymodal.checkpoint.directory_kinds import ENSEMBLE
from polymodal.checkpoint.model_directory import (
    FORMAT,
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
from polymodal.core.errors import ArtifactError, DataError, RecipeError
from polymodal.core.options import StrictModel
from polymodal.core.record import read_record
from polymodal.data.partition import Split
from polymodal.data.table.cell_errors import CellErrors, warn_cell_errors
from polymodal.data.table.table import Table
from polymodal.evaluation.class_alignment import have_same_classes, reorder_classes
from polymodal.evaluation.scores import score_metric, score_output
from polymodal.evaluation.targets import OutputTargets, add_to_scores, check_targets
from polymodal.evaluation.training_rows import warn_training_rows
from polymodal.model.answer_forms import shaped_probabilities, shaped_values
from polymodal.model.distributions import distributions, to_raw_values
from polymodal.model.model import Model
from polymodal.model.scored_tables import count_training_rows
from polymodal.nn.fusion.combiner import Combiner, CombineRule
from polymodal.preparation.preparation import PreparedTable
from polymodal.tasks.base import Task

FILE = "ensemble.json"
WEIGHTS = "combination.safetensors"
#: Combination methods that are fitted on data.
FITTED_METHODS = ("weighted", "product", "stack")


class EnsembleRecord(StrictModel):
    """The content of `ensemble.json`: the number of members, and the SHA-256 of their manifests and of the weights."""

    format: Literal[5] = FORMAT
    polymodal: str = __version__
    method: CombineRule
    members: int = Field(ge=2, le=1000)
    sha256: dict[str, str]


class Ensemble:
    """Models whose predictions are combined. Create it with `ensemble` or `load`.

    members: the models; the first member defines the outputs and the order of classes
    combiner: the combination of the predictions (formulas in `nn.fusion.decision_rules`)

    Example:
        >>> import polymodal
        >>> data = {"length": [1.0, 1.2, 5.0, 5.1] * 5, "kind": ["short", "short", "long", "long"] * 5}
        >>> settings = ["training.epochs=1", "evaluation.bootstrap_samples=0"]
        >>> models = [polymodal.fit(data, "kind", settings=[*settings, f"seed={seed}"]) for seed in (0, 1)]
        >>> both = polymodal.ensemble(models)
        >>> both.classes
        ['long', 'short']
        >>> both.predict_proba({"length": [1.1, 5.2]}).shape
        (2, 2)
    """

    @check_arguments
    def __init__(self, members: list[Model], combiner: Combiner) -> None:
        if not members:
            raise RecipeError("members", "an ensemble needs a model")
        self.members, self.combiner = members, combiner

    @property
    def method(self) -> str:
        """The combination method."""
        return self.combiner.rule

    @property
    def classes(self) -> Any:
        """Names of the columns of `predict_proba`; with several outputs, a dict of lists."""
        return self.members[0].classes

    @check_arguments
    def predict(self, data: Any, *, root: Path | str | None = None, strict: bool = False) -> Any:
        """Predict each row of `data`, as `Model.predict`. The data need the columns of every member."""
        predicted = self._distributions(self.members[0].open(data, root), strict)
        return shaped_values(data, {name: task.predict(predicted[name]) for name, task in self.tasks.items()})

    @check_arguments
    def predict_proba(self, data: Any, *, root: Path | str | None = None, strict: bool = False) -> Any:
        """Probabilities `[rows, k]` in the order of `classes`, numbers for regression; as `Model.predict_proba`."""
        labels = {name: task.class_labels for name, task in self.tasks.items()}
        return shaped_probabilities(data, self._distributions(self.members[0].open(data, root), strict), labels)

    @check_arguments
    def evaluate(self, data: Any, *, root: Path | str | None = None, strict: bool = False) -> dict[str, Any]:
        """Scores on rows with targets, as `Model.evaluate`; `members` holds the score of each member.

        Bootstrap options, sample weights and groups are those of the recipe of the first member.
        """
        first = self.members[0]
        table = first.open(data, root, targets=True)
        trained = max(count_training_rows(member.run, member.preparation, table) for member in self.members)
        warn_training_rows(trained, len(table), table.name)
        truth = Split.all_rows(_truth(first, table, strict))
        each = self._each(table, strict)
        predicted = self.combine(each)
        scores: dict[str, Any] = {}
        for name, task in self.tasks.items():
            targets = OutputTargets.of(truth, name)
            found = score_output(task, predicted[name], targets, first.recipe.evaluation, seed=first.recipe.seed)
            scores[name] = {}
            for metric in task.metrics:
                own = [score_metric(metric, task, member[name], targets) for member in each]
                members = [float(score) if np.isfinite(score) else None for score in own]
                scores[name][metric.name] = found[metric.name].model_dump() | {"members": members}
        return add_to_scores(scores, training_rows=trained)

    @check_arguments
    def save(self, folder: Path | str, *, overwrite: bool = False) -> Path:
        """Write the ensemble: `ensemble.json`, `combination.safetensors`, and the members in `members/0`, `members/1`,
        ...

        overwrite: replace an existing ensemble; it is unchanged until the new one is complete

        Raises:
            OutputError: as `Model.save`.
        """
        folder = Path(folder)
        with OutputDirectory(folder, ENSEMBLE, overwrite).writing() as work:
            self._write_files(work)
        return folder

    def _write_files(self, folder: Path) -> None:
        sums = {}
        for index, member in enumerate(self.members):
            member.save(folder / "members" / str(index))
            manifest = f"members/{index}/manifest.json"
            sums[manifest] = file_sha256(folder / manifest)
        write_tensors(folder / WEIGHTS, self.combiner.state_dict())
        metadata = {"format": FORMAT, "polymodal": __version__, "method": self.method, "members": len(self.members)}
        write_signed(folder / FILE, metadata | {"sha256": sums | {WEIGHTS: file_sha256(folder / WEIGHTS)}})

    @classmethod
    @check_arguments
    def load(cls, folder: Path | str, *, device: str = "auto") -> Ensemble:
        """Read an ensemble directory.

        device: see `load`

        Raises:
            ArtifactError: a file is missing or altered, or the format is not supported.
        """
        folder = Path(folder)
        path = folder / FILE
        values = read_json(path)
        if isinstance(values, dict) and values.get("format") != FORMAT:
            raise ArtifactError(
                f"{folder} has format {values.get('format')}, written by polymodal {values.get('polymodal')}; "
                f"this is polymodal {__version__}, which reads format {FORMAT}"
            )
        record = read_record(EnsembleRecord, unsigned(values, path), path)
        names = [f"members/{index}/{MANIFEST}" for index in range(record.members)]
        if set(record.sha256) != {*names, WEIGHTS}:
            raise ArtifactError(f"{path} does not list the files of {record.members} members; save the ensemble again")
        for name, expected in record.sha256.items():
            verify_file(folder, name, expected)
        members = [Model.load((folder / name).parent, device=device) for name in names]
        for index, member in enumerate(members[1:], start=1):
            _check_member(members[0], member, index)
        with parsing(folder / WEIGHTS):
            combiner = _combiner(record.method, members)
            combiner.load_state_dict(read_tensors(folder / WEIGHTS))
        return cls(members, combiner)

    @property
    def tasks(self) -> dict[str, Task]:
        """The task of each output of the first member."""
        return self.members[0].tasks

    @check_arguments
    def open(self, data: Any, root: Path | str | None = None, *, targets: bool = False) -> Table:
        """Open `data` as a table and check that it has the columns of every member, as `Model.open`."""
        table = self.members[0].open(data, root, targets=targets)
        for member in self.members[1:]:
            member.open(table, targets=targets)
        return table

    @check_arguments
    def stream(self, table: Table, cell_errors: CellErrors) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        """Row numbers and distributions as `Model.stream`, in a single block.

        A cell that is unusable for several members is recorded once.
        """
        before, each = len(cell_errors.errors), []
        for member in self.members:
            blocks = [block for _, block in member.stream(table, cell_errors)]
            each.append(
                {
                    name: reorder_classes(np.concatenate([block[name] for block in blocks]), member.tasks[name], task)
                    for name, task in self.tasks.items()
                }
            )
        cell_errors.errors[before:] = dict.fromkeys(cell_errors.errors[before:])
        yield np.arange(len(table)), self.combine(each)

    @check_arguments
    def combine(self, each: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """Combine the distributions of the members: one distribution `[rows, k]` by output, in the classes of the
        first.

        Raises:
            RecipeError: `each` does not hold the distributions of every member for every output.
        """
        if len(each) != len(self.members) or any(set(self.tasks) - set(one) for one in each):
            wanted = f"{len(self.members)} mappings, one for each member, with the outputs {', '.join(self.tasks)}"
            raise RecipeError("each", f"must be {wanted}")
        found = {}
        for name, task in self.tasks.items():
            values = [to_raw_values(task, member[name]) for member in each]
            here = [torch.ones(len(values[0]))] * len(values)
            with torch.no_grad():
                found[name] = task.distribution(self.combiner(values, here, task.space, name))
        return found

    def _distributions(self, table: Table, strict: bool) -> dict[str, np.ndarray]:
        return self.combine(self._each(table, strict))

    def _each(self, table: Table, strict: bool) -> list[dict[str, np.ndarray]]:
        """The distributions of each member, in the class order of the first member."""
        found = []
        for member in self.members:
            predicted = distributions(member, table, strict=strict)
            tasks = member.preparation.tasks
            found.append(
                {name: reorder_classes(predicted[name], tasks[name], task) for name, task in self.tasks.items()}
            )
        return found

    def _fit(self, table: Table) -> None:
        """Fit the combiner on the rows of `table` with the losses of the tasks."""
        truth = _truth(self.members[0], table, strict=False)
        each = self._each(table, strict=False)
        for name, task in self.tasks.items():
            value, present = truth.targets[name]
            if not present.any():
                raise DataError(
                    "no row has this target, so the combination cannot be fitted", column=", ".join(task.columns)
                )
            target = torch.from_numpy(value[present])
            weight = torch.ones(len(target)) if truth.weight is None else torch.from_numpy(truth.weight[present])

            def loss(values: Tensor, task: Task = task, target: Tensor = target, weight: Tensor = weight) -> Tensor:
                return (task.loss(values, target) * weight).sum() / weight.sum().clamp_min(1e-8)

            branches = self.combiner.branches
            predicted = {
                branch: to_raw_values(task, own[name])[torch.from_numpy(present)]
                for branch, own in zip(branches, each, strict=True)
            }
            here = {branch: torch.ones(len(target)) for branch in branches}
            self.combiner.calibrate(predicted, here, loss, task.space, name)


@check_arguments
def ensemble(
    models: Sequence[Model | Path | str],
    *,
    method: CombineRule = "average",
    data: Any = None,
    root: Path | str | None = None,
) -> Ensemble:
    """Combine trained models with the same outputs and classes. Their inputs may differ.

    models: two or more models, or their directories
    method: `average` of the probabilities (or numbers); `vote`: the class predicted by most members (or the median);
        `weighted`: average with fitted weights; `product`: log-linear pool with fitted temperatures; `stack`: a fitted
        linear layer over all predictions. Formulas: `nn.fusion.decision_rules`.
    data, root: rows with targets for fitting `weighted`, `product` and `stack`, as in `Model.evaluate`. Use rows that
        no member was trained on, because models are overconfident on their training rows.

    Raises:
        RecipeError: outputs or classes differ, the method is unknown, or `data` is missing or not needed.
        DataError: a column of a member is missing, or no row has a target.
        ArtifactError: a directory does not hold a model.

    For an example, see `Ensemble`.
    """
    if method not in get_args(CombineRule):
        raise RecipeError("method", f"unknown method {method!r}; choose from {', '.join(get_args(CombineRule))}")
    if (data is not None) != (method in FITTED_METHODS):
        needs = "is fitted: give rows with targets as data" if data is None else "is not fitted: remove data"
        raise RecipeError("method", f"{method} {needs}")
    members = [model if isinstance(model, Model) else Model.load(model) for model in models]
    if len(members) < 2:
        raise RecipeError("models", f"an ensemble needs two or more models, not {len(members)}")
    if not members[0].preparation.tasks:
        raise RecipeError("outputs", "model 0 has no output; an ensemble needs models with outputs")
    for index, member in enumerate(members[1:], start=1):
        _check_member(members[0], member, index)
    combined = Ensemble(members, _combiner(method, members))
    if data is not None:
        combined._fit(members[0].open(data, root, targets=True))
    return combined


def _combiner(method: CombineRule, members: list[Model]) -> Combiner:
    combiner = Combiner(method, [str(index) for index in range(len(members))])
    combiner.prepare({name: task.output_size for name, task in members[0].preparation.tasks.items()})
    return combiner


def _check_member(first: Model, member: Model, index: int) -> None:
    tasks, own = first.preparation.tasks, member.preparation.tasks
    if sorted(tasks) != sorted(own):
        raise RecipeError("outputs", f"model 0 predicts {sorted(tasks)}, model {index} predicts {sorted(own)}")
    for name, task in tasks.items():
        if task.is_generative:
            raise RecipeError(f"outputs.{name}", f"ensembles do not support {task.space} outputs; use a single model")
        if task.is_embedding:
            raise RecipeError(
                f"outputs.{name}",
                "ensembles do not support embedding outputs, because the spaces differ; use a single model",
            )
        if not have_same_classes(task, own[name]):
            raise RecipeError(
                f"outputs.{name}",
                f"model 0 predicts {task.options.name} of {task.classes}, "
                f"model {index} {own[name].options.name} of {own[name].classes}",
            )


def _truth(first: Model, table: Table, strict: bool) -> PreparedTable:
    """The prepared targets and sample weights of every row of `table`."""
    cell_errors = CellErrors(strict)
    truth = first.preparation.targets_only().prepare(table, cell_errors, folder=None, cache=None)
    check_targets(first.tasks, Split.all_rows(truth), "row", table.name, cell_errors.errors)
    warn_cell_errors(cell_errors.errors)
    return truth
