"""Training of the network of an experiment: supervised, with distillation from a teacher, or with pseudo-labels."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from polymodal.core.progress import Progress
from polymodal.core.writing import write_text
from polymodal.data.partition import Split
from polymodal.distributed.mapped_tensors import machine_folder, share_parameters
from polymodal.experiments.encoder_fitting import fit_encoders
from polymodal.experiments.experiment import Experiment
from polymodal.experiments.initial_network import initial_network
from polymodal.experiments.self_training import train_in_rounds
from polymodal.experiments.teacher import predict_teacher_targets
from polymodal.model.model import Model
from polymodal.model.run_record import ComputeRecord, Durations, PseudoLabelRecord, RunRecord, TeacherRecord
from polymodal.model.run_summary import describe_trainable, pseudo_label_sentence, source_model_sentence
from polymodal.preparation.feature_cache import stored_dtype
from polymodal.preparation.preparation import PreparedTable
from polymodal.recipe.recipe import Recipe
from polymodal.runtime.compute import keep_freed_memory, resolve_device
from polymodal.runtime.meta_parameters import meta_parameters
from polymodal.runtime.random_state import isolated_random_state
from polymodal.training.distillation import TeacherTargets
from polymodal.training.records import SourceModelRecord
from polymodal.training.trainer import Trainer


@dataclass
class TrainingJob:
    """An experiment and how to train it. Creates a trainer for each round.

    teacher_targets: predictions of a teacher for distillation
    folder: folder of the checkpoint and the log; None writes neither
    resume: continue from the checkpoint in the folder, if there is one
    title: title of the progress bar
    log_parameters: print the number of trainable parameters before training, if some are frozen
    deadline: the time (`time.perf_counter()`) at which the training should end
    source_model: record of the weights loaded from a saved model
    """

    experiment: Experiment
    teacher_targets: TeacherTargets | None
    folder: Path | None
    resume: bool
    progress: Progress
    title: str
    log_parameters: bool
    deadline: float = math.inf
    source_model: SourceModelRecord | None = None

    def trainer(self, recipe: Recipe, train: Split[PreparedTable], folder: Path | None, title: str) -> Trainer:
        """A trainer with a new network from the seed, for the schedule of `recipe` and the labels of `train`."""
        experiment, preparation, world = self.experiment, self.experiment.preparation, self.experiment.world
        log_parameters = self.log_parameters and folder == self.folder
        with machine_folder(world) as shared, world.in_turn():  # the first process of a machine fills the caches
            is_shared = world.size > 1 and recipe.training.sharding == "full"
            with meta_parameters() if is_shared and world.local_rank else nullcontext():
                network, source_model = initial_network(recipe, preparation)
            if is_shared:
                share_parameters(network, shared, world)
            if source_model is not None:
                self.source_model = source_model
                if log_parameters:
                    self.progress.log(source_model_sentence(self.source_model))
            fit_encoders(network, preparation, train, recipe.seed)
            network.to(resolve_device(recipe.training.device))
            if log_parameters and any(not parameter.requires_grad for parameter in network.parameters()):
                self.progress.log(describe_trainable(network))
            own = replace(experiment, splits=experiment.splits | {"train": train})
            splits = own.feature_splits(network, self.progress)
        trainer = Trainer(
            recipe,
            network,
            preparation,
            splits,
            teacher_targets=self.teacher_targets,
            folder=folder,
            progress=self.progress,
            title=title,
        )
        trainer.deadline, trainer.world = self.deadline, world
        return trainer


def train_network(
    experiment: Experiment,
    *,
    folder: Path | None = None,
    resume: bool = False,
    progress: Progress,
    title: str = "train",
    log_parameters: bool = False,
    deadline: float = math.inf,
) -> Model:
    """Train a network on the training split and select its weights on the validation split.

    With privileged inputs, a teacher with these inputs is trained first, and the model also learns from its
    predictions. The teacher may also be a saved model. With pseudo-labels, the model is trained in rounds. The global
    random state does not change. The recipe of the returned model holds the precision and number of threads that were
    used.

    For the arguments, see `TrainingJob`.
    """
    keep_freed_memory()
    recipe, train = experiment.recipe, experiment.splits["train"]
    teacher_targets, teacher = _teacher_targets(experiment, folder, resume, progress)
    job = TrainingJob(experiment, teacher_targets, folder, resume, progress, title, log_parameters, deadline)
    labels: PseudoLabelRecord | None = None
    with isolated_random_state():
        if recipe.training.pseudo_labels.rounds:
            trainer, seconds, labels = train_in_rounds(job)
        else:
            trainer = job.trainer(recipe, train, folder, title)
            seconds = trainer.run(resume=resume).seconds
    history, compute = trainer.history, trainer.compute
    label_notices = [] if labels is None else [pseudo_label_sentence(labels)]
    processes = experiment.world.size
    reason = compute.reason if processes == 1 else f"{compute.reason}; {processes} processes, each with these threads"
    record = RunRecord(
        seconds=Durations(round(seconds, 3)),
        compute=ComputeRecord(
            compute.precision, compute.threads, reason, compute.device, stored_dtype(trainer.train.table.inputs)
        ),
        steps=history.steps,
        rows_per_second=round(history.rows / max(history.seconds, 1e-9), 1),
        averaged_epochs=tuple(history.averaged_epochs),
        annealed_from=history.annealed_from,
        notices=(*history.notices, *label_notices),
        history=tuple(history.epochs),
        teacher=teacher,
        source_model=job.source_model,
        pseudo_labels=labels,
    )
    chosen = {"precision": compute.precision, "num_threads": compute.threads}
    resolved = recipe.model_copy(update={"training": recipe.training.model_copy(update=chosen)})
    return Model(resolved, experiment.preparation, trainer.network, run=record)


def _teacher_targets(
    experiment: Experiment, folder: Path | None, resume: bool, progress: Progress
) -> tuple[TeacherTargets | None, TeacherRecord | None]:
    """The predictions of a teacher for the training rows, and its record; None without a teacher."""
    options = experiment.recipe.training.distillation
    if experiment.teacher is not None:
        return _privileged_teacher(experiment.teacher, folder / "teacher" if folder else None, resume, progress)
    if options.teacher is not None:
        with progress.task("predict with the teacher", None):
            return predict_teacher_targets(options, experiment.tables["train"], experiment.preparation.tasks)
    return None, None


def _privileged_teacher(
    teacher: Experiment, folder: Path | None, resume: bool, progress: Progress
) -> tuple[TeacherTargets, TeacherRecord]:
    """Train the teacher that has the privileged inputs."""
    if folder is not None:
        write_text(folder / "recipe.yaml", teacher.recipe.to_yaml())
    model = train_network(teacher, folder=folder, resume=resume, progress=progress, title="train teacher")
    split = teacher.feature_splits(model.network, progress)["train"]
    predictions = model.predictor.predict(split)
    record = TeacherRecord(privileged=tuple(teacher.recipe.privileged), history=model.run.history)
    return TeacherTargets.from_predictions(predictions, split.rows, teacher.recipe.training.distillation), record
