"""Distill a model into one small member: a network, or one estimator, that learns from its predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from polymodal.applications.measurement import ModelMeasurement, measure_models
from polymodal.checkpoint.directory_kinds import MODEL
from polymodal.checkpoint.model_directory import write_json
from polymodal.checkpoint.output_directory import OutputDirectory
from polymodal.checkpoint.output_file import paths_in
from polymodal.core.argument_types import check_arguments
from polymodal.core.errors import PolymodalError, RecipeError, did_you_mean
from polymodal.core.options import explicit_values
from polymodal.core.paths import media_cache_folder, scratch_folder
from polymodal.core.registry import components, find
from polymodal.data.table.cell_errors import CellErrors, warn_cell_errors
from polymodal.model.loading import load
from polymodal.model.model import Model
from polymodal.recipe.recipe import Recipe
from polymodal.workflows.fit import fit

FILE = "distillation.json"
#: The name of a network among the members.
NETWORK = "network"


@dataclass(frozen=True)
class DistillationResult:
    """A small model that learned from a teacher, and both on the same rows.

    model: the student
    member: `network`, or the name of its estimator
    metric: name of the metric of the scores
    """

    model: Model
    member: str
    metric: str
    teacher: ModelMeasurement
    student: ModelMeasurement

    def to_dict(self) -> dict[str, Any]:
        """The measurements, JSON-ready."""
        return {
            "member": self.member,
            "metric": self.metric,
            "teacher": asdict(self.teacher),
            "student": asdict(self.student),
        }


@check_arguments
def distill(
    teacher: Path | str,
    train: Any,
    test: Any,
    *,
    into: str = NETWORK,
    settings: list[str] | Mapping[str, Any] | None = None,
    root: Path | str | None = None,
    out: Path | str | None = None,
    overwrite: bool = False,
) -> DistillationResult:
    """Train one member on the targets and on the predictions of a model, and measure what it loses and gains.

    The student has the inputs, the outputs and the tasks of the teacher. The weight of the teacher's predictions is
    `training.distillation.weight` (see the how-to guide on distillation). A row without a target has only the
    prediction.

    teacher: directory of a saved model
    train: rows to train on, also without targets, such as the training table of the teacher
    test: labeled rows that neither was trained on
    into: `network`, or an estimator such as `linear` or `gradient_boosting`
    settings: recipe keys of the student, as in `fit`, such as `{"hidden_size": 32}`
    root: base folder of media paths in cells
    out: directory of the student, with the measurements in `distillation.json`
    overwrite: replace the model in `out`

    Raises:
        RecipeError: there is no such member, or it does not support an output of the teacher.
        PolymodalError: the directory holds an ensemble of models.
        DataError: a column is missing.
        ArtifactError: the directory of the teacher holds no model.
        OutputError: as `Model.save`.

    Example:
        >>> import polymodal, tempfile
        >>> from polymodal.applications.distillation import distill
        >>> data = {"length": [1.0, 1.2, 5.0, 5.1] * 10, "kind": ["short", "short", "long", "long"] * 10}
        >>> settings = {"evaluation.bootstrap_samples": 0, "members": ["linear", "kernel"], "network": False}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model = polymodal.fit(data, "kind", settings=settings, out=f"{folder}/model")
        ...     result = distill(f"{folder}/model", data, data, into="linear")
        >>> result.student.score
        1.0
    """
    known = [NETWORK, *components("estimator")]
    if into not in known:
        raise RecipeError("into", f"there is no member {into!r}; {did_you_mean(into, known)}")
    directory = None
    if out is not None:
        directory = OutputDirectory(Path(out), MODEL, overwrite, inputs=paths_in(teacher, train, test))
        directory.check()
    model = load(teacher)
    if not isinstance(model, Model):
        raise PolymodalError(
            f"{teacher} holds an ensemble of models; fit one model with training.distillation.teacher={teacher}"
        )
    if not model.tasks:
        raise RecipeError("outputs", "the teacher has no output, so nothing can be learned from its predictions")
    recipe = _student_recipe(model.recipe, Path(teacher), into)
    student = fit(train, recipe=recipe, settings=settings, root=root)
    cell_errors = CellErrors()
    with scratch_folder() as folder:
        table = student.open(model.open(test, root, targets=True), targets=True)
        prepared = {
            name: (
                one,
                one.preparation.prepare(table, cell_errors, folder=folder / name, cache=media_cache_folder()),
            )
            for name, one in (("teacher", model), ("student", student))
        }
        measured = measure_models(prepared)
    warn_cell_errors(list(dict.fromkeys(cell_errors.errors)))
    metric = next(iter(model.tasks.values())).metrics[0].name
    result = DistillationResult(student, into, metric, measured["teacher"], measured["student"])
    if directory is not None:
        with directory.writing() as work:
            student.write_files(work)
            write_json(work / FILE, result.to_dict())
    return result


def _student_recipe(teacher: Recipe, folder: Path, into: str) -> Recipe:
    """The recipe of a student with the inputs and outputs of the teacher. What depends on the members is unset."""
    values = explicit_values(teacher)
    inputs = {}
    for name, spec in values["inputs"].items():
        inputs[name] = {key: value for key, value in spec.items() if key != "features"}
        modality = inputs[name]["modality"]
        fields = find("modality", modality["name"]).Options.model_fields
        unset = [key for key, value in modality.items() if value is None and fields[key].default is None]
        for key in unset:  # what the teacher does not need may be what the student reads
            del modality[key]
    kept = {
        key: values[key] for key in ("outputs", "data", "seed", "pretrained", "size", "hidden_size") if key in values
    }
    members = {"members": []} if into == NETWORK else {"members": [into], "network": False}
    kept["evaluation"] = {"bootstrap_samples": 0, "unimodal_scores": "none"}
    kept["training"] = {"distillation": {"teacher": str(folder)}}
    return Recipe.read({**kept, **members, "inputs": inputs})
