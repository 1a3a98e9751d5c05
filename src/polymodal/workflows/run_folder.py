"""The model directory of a run: new, resumed, or replaced at the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polymodal.checkpoint.directory_kinds import MODEL
from polymodal.checkpoint.model_directory import file_sha256
from polymodal.checkpoint.output_directory import OutputDirectory, check_same_data
from polymodal.checkpoint.output_file import paths_in
from polymodal.core.errors import ArtifactError, RecipeError
from polymodal.core.writing import write_text
from polymodal.data.partition import Split
from polymodal.data.table.table import Table
from polymodal.distributed.launch import num_restarts
from polymodal.distributed.world import SINGLE, World
from polymodal.experiments.experiment import Experiment
from polymodal.experiments.score import SplitScores
from polymodal.experiments.train import unimodal_recipe
from polymodal.model.model import Model
from polymodal.model.run_record import RunRecord, SplitRecord
from polymodal.recipe.recipe import Recipe
from polymodal.training.run_checkpoint import delete_checkpoint

#: The file of a model directory that lists the unusable cells.
CELL_ERRORS_FILE = "cell_errors.jsonl"


@dataclass(frozen=True)
class RunData:
    """The data of a run.

    splits: the table of each split, with its content hash
    source_model: the SHA-256 of the manifest of the model that the run starts from; "" without one
    """

    splits: dict[str, SplitRecord]
    source_model: str = ""

    @classmethod
    def of(cls, recipe: Recipe, splits: Mapping[str, Split[Table]]) -> RunData:
        """The data of a run that is about to start. Each table is read once."""
        hashes = {
            id(table): table.fingerprint() for table in {id(one.table): one.table for one in splits.values()}.values()
        }
        records = {
            name: SplitRecord(split.table.name, len(split), hashes[id(split.table)]) for name, split in splits.items()
        }
        manifest = Path(recipe.training.init_from or "") / MODEL.manifest
        return cls(records, file_sha256(manifest) if recipe.training.init_from and manifest.is_file() else "")

    @classmethod
    def from_record(cls, run: RunRecord) -> RunData:
        """The data of a complete run."""
        return cls(run.splits, run.source_model.sha256 if run.source_model is not None else "")

    def identity(self) -> dict[str, str]:
        """What must be the same in a run that is resumed, by name."""
        tables = {f"{name} table": split.fingerprint for name, split in self.splits.items()}
        return tables | ({"source model": self.source_model} if self.source_model else {})


@dataclass(frozen=True)
class OpenRun:
    """The folder that a run writes, None if nothing is written; or a complete run, which is only read."""

    path: Path | None
    is_complete: bool = False


@dataclass(frozen=True)
class RunFolder:
    """The model directory of a run. Without a path, nothing is written.

    resume: continue from the checkpoint in the folder
    overwrite: replace the model in the folder when the new one is complete
    inputs: files and folders that the run reads
    world: the processes of the run, of which process 0 writes
    """

    path: Path | None
    resume: bool = False
    overwrite: bool = False
    inputs: tuple[Path, ...] = ()
    world: World = SINGLE

    @classmethod
    def from_arguments(
        cls, out: Path | str | None, resume: bool, overwrite: bool, inputs: Any = (), world: World = SINGLE
    ) -> RunFolder:
        """The folder of the arguments of `fit`, checked before the data are read. A run that the launcher has restarted
        is resumed.

        Raises:
            RecipeError: `resume` or `overwrite` is set without `out`, or both are set.
            OutputError: the folder may not be written.
        """
        if out is None and (resume or overwrite):
            raise RecipeError("", "resume and overwrite need `out`, the directory of the run")
        if resume and overwrite:
            raise RecipeError("", "resume continues a run, and overwrite starts again: set one of them")
        if out is not None and num_restarts():
            resume, overwrite = True, False
        folder = cls(None if out is None else Path(out), resume, overwrite, paths_in(*inputs), world)
        if folder.path is not None:
            world.first(folder._directory(folder.path).check)
        return folder

    def _directory(self, path: Path, identity: Mapping[str, str] | None = None) -> OutputDirectory:
        return OutputDirectory(path, MODEL, self.overwrite, self.resume, self.inputs, identity or {})

    @contextmanager
    def writing(self, data: RunData) -> Iterator[OpenRun]:
        """Lock the folder while the run writes it (`checkpoint.output_directory`).

        Raises:
            OutputError: the folder may not be written.
            ArtifactError: the run to resume has other data.
        """
        if self.path is None:
            yield OpenRun(None)
            return
        directory = self._directory(self.path, data.identity())
        is_complete = self.world.first(lambda: self.resume and directory.is_complete())
        if is_complete or not self.world.is_first:
            yield OpenRun(None, is_complete)
            return
        with directory.writing() as work:
            yield OpenRun(work)

    def read(self, recipes: Sequence[Recipe], data: RunData) -> Model:
        """The model of a complete run of one of these recipes.

        Raises:
            ArtifactError: the model belongs to another recipe or to other data.
        """
        assert self.path is not None
        model = Model.load(self.path)
        chosen = {
            key: getattr(model.recipe.training, key) for key in ("precision", "num_threads")
        }  # chosen by measurement
        expected = []
        for recipe in recipes:
            alone = model.run.single_input in recipe.inputs
            planned = unimodal_recipe(recipe, model.run.single_input) if alone else recipe
            training = planned.training.model_copy(update=chosen)
            expected.append(planned.model_copy(update={"training": training}).to_json())
        if model.recipe.to_json() not in expected:
            raise ArtifactError(
                f"{self.path} holds a complete run of another recipe: set overwrite, or choose another directory"
            )
        before, now = RunData.from_record(model.run).identity(), data.identity()
        if "source model" not in now:  # it was deleted, or the run has none
            before.pop("source model", None)
        check_same_data(self.path, before, now, "a complete run")
        return model


def sources(recipe: Recipe) -> list[str]:
    """The directories of the saved models that a recipe reads."""
    named = (recipe.training.init_from, recipe.training.distillation.teacher)
    return [str(one) for one in named if one is not None]


def write_run(folder: Path, experiment: Experiment, model: Model, scores: dict[str, SplitScores]) -> None:
    """Write the model, the unusable cells, the model card and the report; delete checkpoints.

    Raises:
        OutputError: a file cannot be written.
    """
    from polymodal.report.card import write_card  # templates and charts are only needed at the end of a run
    from polymodal.report.report import write_report

    model.write_files(folder)
    write_text(folder / CELL_ERRORS_FILE, "".join(experiment.cell_errors.json_lines()))
    write_card(folder, model)
    write_report(folder, experiment, model, scores)
    for one in (folder, folder / "teacher", *folder.glob("round-*"), *folder.glob("fold-*"), folder / "alternative"):
        delete_checkpoint(one)
