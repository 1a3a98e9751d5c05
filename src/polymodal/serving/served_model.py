"""A model directory that is served under a name."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from polymodal.checkpoint.directory_kinds import ENSEMBLE, MODEL
from polymodal.core.errors import ArtifactError
from polymodal.modalities.base import Modality
from polymodal.modalities.media import MediaModality
from polymodal.modalities.time_series import TimeSeries
from polymodal.model.loading import load
from polymodal.preparation.preparation import Preparation
from polymodal.recipe.data import LimitOptions
from polymodal.recipe.recipe import Recipe
from polymodal.serving.errors import RequestError
from polymodal.tasks.base import Task
from polymodal.tasks.text_generation import TextGenerationTask

if TYPE_CHECKING:
    from polymodal.model.ensemble import Ensemble
    from polymodal.model.model import Model


class ServedModel:
    """A model or an ensemble. Its recipe is read at once, its weights when it is first needed.

    name: the name of the model in requests
    created: when it was opened, in seconds since 1970
    modalities, tasks: those of the recipe, which are not fitted; they name the columns

    Raises:
        ArtifactError: the folder holds no model.
    """

    def __init__(self, name: str, folder: Path, device: str) -> None:
        self.name, self.folder, self.device, self.created = name, folder, device, int(time.time())
        self.recipe = _read_recipe(folder)
        preparation = Preparation(self.recipe)
        self.columns = preparation.input_columns
        self.modalities: dict[str, Modality] = preparation.modalities
        self.tasks: dict[str, Task] = preparation.tasks
        self._model: Model | Ensemble | None = None

    @property
    def limits(self) -> LimitOptions:
        """The limits of media cells."""
        return self.recipe.data.limits

    @property
    def is_loaded(self) -> bool:
        """Whether the weights are in memory."""
        return self._model is not None

    @property
    def prompt_columns(self) -> list[str]:
        """The columns of prompts and conversations, which must have a cell in every row."""
        return list(dict.fromkeys(column for task in self.tasks.values() for column in task.prompt_columns))

    def readers(self, column: str) -> list[Modality]:
        """The modalities that read a column."""
        return [one for one in self.modalities.values() if column in one.columns]

    def takes_media(self, column: str) -> bool:
        """Whether the cells of a column are media: images, sounds, videos or files of time series."""
        return any(isinstance(one, MediaModality) for one in self.readers(column))

    def takes_lists(self, column: str) -> bool:
        """Whether the cells of a column may be lists of numbers: time series."""
        return any(isinstance(one, TimeSeries) for one in self.readers(column))

    def columns_of(self, modality: str) -> list[str]:
        """The columns of the inputs of a modality, in the order of the recipe."""
        found = [one for one in self.modalities.values() if one.options.name == modality]
        return list(dict.fromkeys(column for one in found for column in one.columns))

    @property
    def draws_texts(self) -> bool:
        """Whether predictions hold texts that are sampled. The draws of a row depend on its number in the request."""
        tasks = [task for task in self.tasks.values() if isinstance(task, TextGenerationTask)]
        return any(task.options.generation.temperature > 0 for task in tasks)

    def text_task(self, output: str | None) -> tuple[str, TextGenerationTask]:
        """The text output of this name, or the only one, with its task.

        Raises:
            RequestError: there is no such output, or several.
        """
        found = {name: task for name, task in self.tasks.items() if isinstance(task, TextGenerationTask)}
        if not found:
            raise RequestError(
                f"the model {self.name!r} generates no texts; use /v1/predict", code="unsupported", param="model"
            )
        if output is None and len(found) > 1:
            raise RequestError(f"set `output` to one of {', '.join(found)}", param="output")
        name = output or next(iter(found))
        if name not in found:
            raise RequestError(f"the model has no text output {name!r}; it has {', '.join(found)}", param="output")
        return name, found[name]

    def load(self) -> Model | Ensemble:
        """The model with its weights; called by one thread."""
        if self._model is None:
            self._model = load(self.folder, device=self.device)
        return self._model

    def load_single(self) -> Model:
        """The model with its weights.

        Raises:
            RequestError: it is an ensemble, which neither embeds nor generates.
        """
        from polymodal.model.model import Model

        model = self.load()
        if not isinstance(model, Model):
            raise RequestError(f"{self.name!r} is an ensemble, which only predicts; use /v1/predict", param="model")
        return model


def _read_recipe(folder: Path) -> Recipe:
    first = folder / "members" / "0" if (folder / ENSEMBLE.manifest).is_file() else folder
    if not (first / MODEL.manifest).is_file():
        raise ArtifactError(f"{folder} holds no model; give a directory that `fit` has written")
    return Recipe.read(first / "recipe.yaml")
