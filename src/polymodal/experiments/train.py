"""Training of an experiment: a single network, or several members that are combined."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from polymodal.core.progress import Progress
from polymodal.core.registry import find
from polymodal.experiments.experiment import Experiment
from polymodal.experiments.train_members import train_members
from polymodal.experiments.train_network import train_network
from polymodal.model.model import Model
from polymodal.recipe.recipe import Recipe


def training_of(recipe: Recipe) -> Callable[..., Model]:
    """The function that trains a model of this recipe: `train_network`, or `train_members` if it has several members.
    Both have the arguments of `train_network`."""
    return train_members if recipe.members else train_network


def train_model(
    experiment: Experiment,
    *,
    folder: Path | None = None,
    resume: bool = False,
    progress: Progress,
    title: str = "train",
    log_parameters: bool = False,
    deadline: float = math.inf,
) -> Model:
    """Train a model on the training split, and select it on the validation split.

    For the arguments, see `train_network.TrainingJob`.
    """
    return training_of(experiment.recipe)(
        experiment,
        folder=folder,
        resume=resume,
        progress=progress,
        title=title,
        log_parameters=log_parameters,
        deadline=deadline,
    )


def train_unimodal(
    experiment: Experiment, model: Model, name: str, *, progress: Progress, deadline: float = math.inf
) -> tuple[Experiment, Model]:
    """Train a model of one input with the recipe of `model`; return the experiment of the input and its model.

    deadline: see `train_network.TrainingJob`
    """
    unimodal = replace(experiment.with_recipe(unimodal_recipe(model.recipe, name)), teacher=None)
    return unimodal, train_model(unimodal, progress=progress, title=f"train {name} only", deadline=deadline)


def unimodal_recipe(recipe: Recipe, name: str) -> Recipe:
    """The recipe of a model of one input.

    Training stops after a quarter of the epochs without a better validation score: an input without enough information
    is at its best early.
    """
    recipe = recipe.with_inputs([name])
    parts = {path: value for path, value in recipe.training.param_groups.items() if path != "fusion"}
    untaught = recipe.training.distillation.model_copy(update={"teacher": None})
    patience = min(recipe.training.early_stopping_patience or 1, max(3, (recipe.training.epochs or 0) // 4))
    changes = {"param_groups": parts, "distillation": untaught, "early_stopping_patience": patience}
    training = recipe.training.model_copy(update=changes)
    return recipe.model_copy(update={"fusion": find("fusion", "concat").Options(), "training": training})
