"""Train the model of an experiment: plainly, taught by another model, or in rounds with labels of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from polymodal.core.progress import Progress
from polymodal.core.registry import find
from polymodal.data.partition import Split
from polymodal.experiments.experiment import Experiment
from polymodal.experiments.self_training import train_in_rounds
from polymodal.experiments.teacher import saved_teacher
from polymodal.model.model import Model, make_network
from polymodal.model.run_record import ComputeRecord, PseudoLabels, RunRecord, Seconds, TeacherRecord
from polymodal.model.run_summary import describe_trainable, pseudo_label_sentence, start_sentence
from polymodal.preparation.preparation import PreparedTable
from polymodal.recipe.recipe import Recipe
from polymodal.runtime.compute import keep_freed_memory, resolve_device
from polymodal.runtime.random_state import own_random_state
from polymodal.training.distillation import Lessons
from polymodal.training.optimiser import freeze_parts
from polymodal.training.records import StartRecord
from polymodal.training.source_model import Start
from polymodal.training.trainer import Trainer
from polymodal.training.weight_transfer import carry, planned


@dataclass
class TrainingJob:
    """An experiment to train, and how: makes a trainer for each round.

    lessons: of a teacher
    folder: of checkpoints and the log; None writes neither
    resume: go on from the checkpoint in the folder, if there is one
    title: of the bar that shows the steps
    tell: say before training how much of the network learns, where not all of it does
    start: what was carried over from a saved model
    """

    experiment: Experiment
    lessons: Lessons | None
    folder: Path | None
    resume: bool
    progress: Progress
    title: str
    tell: bool
    start: StartRecord | None = None

    def trainer(self, recipe: Recipe, train: Split[PreparedTable], folder: Path | None, title: str) -> Trainer:
        """A trainer with a new network from the seed, for a schedule and labels of their own."""
        experiment, preparation = self.experiment, self.experiment.preparation
        start, tell = Start.of(recipe), self.tell and folder == self.folder
        torch.manual_seed(recipe.seed)
        network = make_network(recipe, preparation, pretrained=True, known=planned(start, preparation))
        if start is not None:
            self.start = carry(start, network, preparation).record()
            if tell:
                self.progress.say(start_sentence(self.start))
        freeze_parts(network, recipe.training)
        network.to(resolve_device(recipe.training.device))
        if tell and any(not parameter.requires_grad for parameter in network.parameters()):
            self.progress.say(describe_trainable(network))
        own = replace(experiment, splits=experiment.splits | {"train": train})
        splits = own.feature_splits(network, self.progress)
        return Trainer(
            recipe,
            network,
            preparation,
            splits,
            lessons=self.lessons,
            folder=folder,
            progress=self.progress,
            title=title,
        )


def train_model(
    experiment: Experiment,
    *,
    folder: Path | None = None,
    resume: bool = False,
    progress: Progress,
    title: str = "train",
    tell: bool = False,
) -> Model:
    """Train a network on the experiment's training split and choose its weights on the validation split.

    With privileged inputs, a teacher that sees them is trained first, and the model learns from its decisions too; or
    the teacher is a saved model. With pseudo-labels, it is trained in rounds.
    The caller's random state is left as it was; the returned recipe says how it was computed.

    Arguments are those of `TrainingJob`.
    """
    keep_freed_memory()
    recipe, train = experiment.recipe, experiment.splits["train"]
    lessons, teacher = _lessons(experiment, folder, resume, progress)
    job = TrainingJob(experiment, lessons, folder, resume, progress, title, tell)
    labels: PseudoLabels | None = None
    with own_random_state():
        if recipe.training.pseudo_labels.rounds:
            trainer, seconds, labels = train_in_rounds(job)
        else:
            trainer = job.trainer(recipe, train, folder, title)
            seconds = trainer.run(resume=resume).seconds
    history, compute = trainer.history, trainer.compute
    told = [] if labels is None else [pseudo_label_sentence(labels)]
    record = RunRecord(
        seconds=Seconds(round(seconds, 3)),
        compute=ComputeRecord(compute.precision, compute.threads, compute.reason, compute.device),
        steps=history.steps,
        rows_per_second=round(history.rows / max(history.seconds, 1e-9), 1),
        averaged_epochs=tuple(history.averaged),
        notices=(*history.notices, *told),
        history=tuple(history.epochs),
        teacher=teacher,
        start=job.start,
        pseudo_labels=labels,
    )
    chosen = {"precision": compute.precision, "threads": compute.threads}
    resolved = recipe.model_copy(update={"training": recipe.training.model_copy(update=chosen)})
    return Model(resolved, experiment.preparation, trainer.network, run=record)


def train_alone(experiment: Experiment, model: Model, name: str, *, progress: Progress) -> tuple[Experiment, Model]:
    """Train a model on one input alone, with the model's recipe otherwise; the experiment is that input's."""
    recipe = model.recipe.only([name])
    parts = {path: value for path, value in recipe.training.parts.items() if path != "fusion"}
    untaught = recipe.training.distillation.model_copy(update={"teacher": None})
    training = recipe.training.model_copy(update={"parts": parts, "distillation": untaught})
    recipe = recipe.model_copy(update={"fusion": find("fusion", "concat").Options(), "training": training})
    alone = replace(experiment.with_recipe(recipe), teacher=None)
    return alone, train_model(alone, progress=progress, title=f"train {name} alone")


def _lessons(
    experiment: Experiment, folder: Path | None, resume: bool, progress: Progress
) -> tuple[Lessons | None, TeacherRecord | None]:
    """What a teacher decides for the training rows, and what the run records of it; None without a teacher."""
    options = experiment.recipe.training.distillation
    if experiment.teacher is not None:
        return _privileged_teacher(experiment.teacher, folder / "teacher" if folder else None, resume, progress)
    if options.teacher is not None:
        with progress.task("ask the teacher", None):
            return saved_teacher(options, experiment.tables["train"], experiment.preparation.tasks)
    return None, None


def _privileged_teacher(
    teacher: Experiment, folder: Path | None, resume: bool, progress: Progress
) -> tuple[Lessons, TeacherRecord]:
    """Train the teacher that sees the privileged inputs."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "recipe.yaml").write_text(teacher.recipe.to_yaml(), encoding="utf-8")
    model = train_model(teacher, folder=folder, resume=resume, progress=progress, title="train teacher")
    split = teacher.feature_splits(model.network, progress)["train"]
    decisions = model.predictor.predict(split)
    record = TeacherRecord(privileged=tuple(teacher.recipe.privileged), history=model.run.history)
    return Lessons.of(decisions, split.rows, teacher.recipe.training.distillation), record
