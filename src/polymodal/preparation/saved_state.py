"""The fitted state of modalities and tasks in a model directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from polymodal.checkpoint.model_directory import read_json
from polymodal.checkpoint.reading import parsing
from polymodal.core.options import StrictModel
from polymodal.core.record import read_record
from polymodal.data.table.cell_kinds import CellKind
from polymodal.modalities.base import Modality
from polymodal.tasks.base import Task

FILE, FOLDER = "preparation.json", "preparation"


class PreparationState(StrictModel):
    """The content of `preparation.json`: the state of each input and output, by name and in the order of the recipe.

    columns: the kind of each column in the training table
    root: the root folder of the training table (`training_root`)
    """

    columns: dict[str, CellKind]
    inputs: dict[str, dict[str, Any]]
    outputs: dict[str, dict[str, Any]]
    root: dict[str, Any] | None = None


class SavedPreparation:
    """Restores modalities and tasks from `preparation.json` and the tokenizers in `preparation/`.

    Raises:
        ArtifactError: the file cannot be read, or has another structure.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.file = folder / FOLDER, folder / FILE
        self.state = read_record(PreparationState, read_json(self.file), self.file)

    def load_modality(self, modality: Modality, name: str, index: int) -> None:
        """Restore the modality of the input `name`, which is number `index` in the recipe.

        Raises:
            ArtifactError: its state is missing, or is not what this modality saves.
        """
        with parsing(self.file):
            state = self.state.inputs[name]
            read_record(modality.state_type, state, self.file)
            modality.load(self.folder / f"input{index}", state)

    def load_task(self, task: Task, name: str, index: int) -> None:
        """Restore the task of the output `name`, which is number `index` in the recipe.

        Raises:
            ArtifactError: its state is missing, or is not what this task saves.
        """
        with parsing(self.file):
            state = self.state.outputs[name]
            read_record(task.state_type, state, self.file)
            task.read_files(self.folder / f"output{index}")
            task.load(state)
