"""The training loop of one run, resumable from every checkpoint."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
from torch import Tensor

from polymodal.checkpoint.training_state_file import (
    TrainingState,
    add_prefix,
    optimizer_tensors,
    read_checkpoint,
    restore_optimizer,
    write_checkpoint,
)
from polymodal.core.errors import ArtifactError, RecipeError, TrainingError
from polymodal.core.progress import Progress
from polymodal.core.types import Batch
from polymodal.data.partition import Split
from polymodal.inference.objective_losses import ObjectiveLosses, objective_score
from polymodal.inference.predictions import Predictions
from polymodal.inference.predictor import Predictor
from polymodal.nn.network import Network
from polymodal.nn.objectives.base import ObjectiveBatch
from polymodal.nn.towers import EncodedInputs, LazyInputTokens
from polymodal.preparation.preparation import Preparation, PreparedTable
from polymodal.recipe.recipe import Recipe
from polymodal.runtime.autotune import autotune, autotune_cache
from polymodal.runtime.compute import ComputeConfig, network_device
from polymodal.runtime.random_state import random_state, restore_random_state
from polymodal.training.averaging import BestEpochs, restore_state, trainable_state
from polymodal.training.batches import make_sampler
from polymodal.training.calibration import calibrate_fusion
from polymodal.training.distillation import TeacherTargets
from polymodal.training.fingerprint import run_fingerprint
from polymodal.training.gradient_blending import branch_losses, make_blending
from polymodal.training.log import Log
from polymodal.training.loss import Loss, Losses
from polymodal.training.modality_balancing import modulate_gradients, unimodal_scores
from polymodal.training.modality_dropout import apply_modality_dropout
from polymodal.training.monitor import Monitor, first_judged_epoch
from polymodal.training.optimizer import (
    clip_gradient,
    count_warmup_steps,
    freeze_parts,
    make_optimizer,
    make_schedule,
    shared_parameters,
)
from polymodal.training.records import Epoch, History
from polymodal.training.validation import Validation, is_solved, validate


class Trainer:
    """Trains `network` on the split `train` and validates on `validation`. `run` loads the selected weights into it.

    The state of a run is (weights, optimizer, schedule, random state, epoch and batch, best epochs): `state_dict` holds
    all of it. The order of rows is a function of (seed, epoch), so a resumed run equals an uninterrupted run. The
    checkpoint is kept after the last epoch, in case the process stops before the model is saved. The code that saves
    the model deletes it.

    deadline: the time (`time.perf_counter()`) at which the run should end; default: none
    teacher_targets: predictions of a teacher for distillation
    folder: folder of the checkpoint and the log; None writes neither
    progress, title: progress bar and its title
    """

    def __init__(
        self,
        recipe: Recipe,
        network: Network,
        preparation: Preparation,
        splits: Mapping[str, Split[PreparedTable]],
        *,
        teacher_targets: TeacherTargets | None = None,
        folder: Path | None = None,
        progress: Progress | None = None,
        title: str = "train",
    ) -> None:
        options = recipe.training
        if options.epochs is None or options.batch_size is None or options.early_stopping_patience is None:
            raise ValueError("the trainer needs a complete recipe: epochs, batch_size and early_stopping_patience")
        self.options, self.network, self.preparation = options, network, preparation
        self.train, self.valid = splits["train"], splits["validation"]
        self.folder, self.progress, self.title = folder, progress or Progress(False), title
        self.patience = options.early_stopping_patience
        freeze_parts(network, options)
        self.objectives = network.objectives
        objective_weights = {name: one.options.weight for name, one in self.objectives.items()}
        weights = {name: spec.loss_weight for name, spec in recipe.outputs.items()} | objective_weights
        self.loss = Loss(
            preparation.tasks, weights, options.loss_balancing, teacher_targets, make_blending(network, options)
        )
        self.loss.to(network_device(network))
        self.optimizer = make_optimizer(network, self.loss, options)
        self.trainable_parameters = [
            parameter for group in self.optimizer.param_groups for parameter in group["params"]
        ]
        self.shared_parameters = shared_parameters(network)
        self.sampler = make_sampler(recipe, network, preparation, self.train)
        self.epoch, self.batch_index, self.epochs_without_improvement = 0, 0, 0
        self.batches = self.sampler.epoch(0)
        self.num_epochs, self.deadline = options.epochs, math.inf
        self.total_steps = self.num_epochs * len(self.batches)
        self.schedule = make_schedule(self.optimizer, self.total_steps, options.warmup_ratio)
        self.selects_best_epoch = bool(preparation.tasks) or all(
            one.usable_for_model_selection for one in self.objectives.values()
        )
        self.best = BestEpochs(options.average_top_k if self.selects_best_epoch else 1)
        self.history = History()
        warmup_steps = count_warmup_steps(self.total_steps, options.warmup_ratio)
        self.monitor = Monitor(
            network,
            {name: task.baseline_loss() for name, task in preparation.tasks.items()},
            first_judged_epoch=first_judged_epoch(len(self.batches), warmup_steps),
        )
        self.fingerprint = run_fingerprint(recipe, self.train)
        self.epoch_loss: dict[str, float] = {}
        self.compute = ComputeConfig(device=network_device(network))

    def run(self, *, resume: bool = False) -> History:
        """Train to the last epoch, or until validation has not improved for `early_stopping_patience` epochs or cannot.

        resume: continue from the checkpoint in the folder, if there is one

        Raises:
            ArtifactError: the checkpoint belongs to another recipe or to other training rows.
            TrainingError: a number is not finite, no training row has a target, or no training row has the inputs of an
                objective.
        """
        targets = self.train.table.targets.values()
        if not self.objectives and not any(known[self.train.rows].any() for _, known in targets):
            raise TrainingError("no training row has a target")
        resumed = resume and self.checkpoint is not None and self.checkpoint.is_file()
        if resumed and self.checkpoint is not None:
            self.load_state_dict(read_checkpoint(self.checkpoint))
        else:
            self.compute = autotune(self.options, self.network, self._trial_step, autotune_cache())
        self.monitor.check_compute(self.compute)
        if (self.options.epochs or 0) > 1:
            known = {name: present[self.valid.rows] for name, (_, present) in self.valid.table.targets.items()}
            self.monitor.check_validation_rows({name: int(present.sum()) for name, present in known.items()})
        last_step = self.history.steps if resumed else None
        with (
            closing(Log(self.folder, tensorboard=self.options.tensorboard, keep=last_step)) as self.log,
            self.progress.task(self.title, 1) as self.bar,
        ):
            started = time.perf_counter()
            while self.epoch < self.num_epochs and self.epochs_without_improvement < self.patience:
                self.batches = self.sampler.epoch(self.epoch)
                self.network.train()
                begun = time.perf_counter()
                with self.compute.active():
                    while self.batch_index < len(self.batches):
                        self._step(self.batches[self.batch_index])
                        self.batch_index += 1
                        if self.history.steps % self.options.save_steps == 0 and self.batch_index < len(self.batches):
                            begun = self._count_time(begun)
                            self._save()
                self._count_time(begun)
                self._end_epoch()
                if self.epoch == 1:
                    self._plan_epochs(time.perf_counter() - started)
                self._save()
            self._select_weights()
            if self.epoch:
                self.monitor.check_objectives(self._objective_losses(), self.epoch)
            self.history.notices = self.monitor.notices
            steps, epochs = self.history.steps, len(self.history.epochs)
            self.bar.status(steps, steps, f"{epochs} epochs, best {self.best.epochs[0]}")
        return self.history

    @property
    def checkpoint(self) -> Path | None:
        """The file from which an interrupted run resumes."""
        return None if self.folder is None else self.folder / "checkpoint.safetensors"

    def state_dict(self) -> TrainingState:
        """The complete state of the run, for exact resumption."""
        tensors = random_state()
        tensors |= add_prefix("network.", trainable_state(self.network))
        tensors |= add_prefix("loss.", self.loss.state_dict())
        tensors |= add_prefix("optimizer.", optimizer_tensors(self.optimizer))
        tensors |= add_prefix("best.", self.best.state_dict())
        facts = {
            "fingerprint": self.fingerprint,
            "epoch": self.epoch,
            "batch_index": self.batch_index,
            "epochs_without_improvement": self.epochs_without_improvement,
            "epoch_loss": self.epoch_loss,
            "scores": self.best.scores,
            "epochs": self.best.epochs,
            "history": self.history.state_dict(),
            "notices": self.monitor.notices,
            "zero_grad_steps": self.monitor.zero_grad_steps,
            "num_epochs": self.num_epochs,
            "compute": vars(self.compute),
        }
        return TrainingState(tensors, facts)

    def load_state_dict(self, state: TrainingState) -> None:
        """Restore the result of `state_dict`.

        Raises:
            ArtifactError: it belongs to another recipe or to other training rows.
        """
        facts = state.metadata
        if facts["fingerprint"] != self.fingerprint:
            raise ArtifactError(
                f"{self.checkpoint} belongs to another recipe or to other training rows: use the recipe and data of "
                "the interrupted run, or start again with overwrite"
            )
        restore_state(self.network, state.with_prefix("network."))
        self.loss.load_state_dict(state.with_prefix("loss."))
        restore_optimizer(self.optimizer, state.with_prefix("optimizer."))
        self.epoch, self.batch_index = facts["epoch"], facts["batch_index"]
        self.epochs_without_improvement = facts["epochs_without_improvement"]
        self.epoch_loss = facts["epoch_loss"]
        self.best.load_state_dict(state.with_prefix("best."), facts["scores"], facts["epochs"])
        self.history = History.from_state(facts["history"])
        self.monitor.notices, self.monitor.zero_grad_steps = facts["notices"], facts["zero_grad_steps"]
        self.compute = replace(ComputeConfig(**facts["compute"]), device=self.compute.device).supported()
        self._set_epochs(facts["num_epochs"])
        restore_random_state(state.tensors)

    @property
    def predictor(self) -> Predictor:
        """A predictor with the current weights, for the validation rows."""
        return Predictor(self.network, self.preparation, self.compute, 4 * (self.options.batch_size or 64))

    def _plan_epochs(self, seconds: float) -> None:
        """Plan fewer epochs, at the end of which the learning rate is 0, if all would end after the deadline.

        seconds: the duration of the first epoch with its validation
        """
        possible = 1 + max(1.0, (self.deadline - time.perf_counter()) / max(seconds, 1e-9))
        if possible < self.num_epochs:
            self.monitor.notices.append(f"the time limit allows {int(possible)} of {self.num_epochs} epochs")
            self._set_epochs(int(possible))

    def _set_epochs(self, epochs: int) -> None:
        self.num_epochs, self.total_steps = epochs, epochs * len(self.batches)
        self.schedule = make_schedule(
            self.optimizer, self.total_steps, self.options.warmup_ratio, completed_steps=self.history.steps
        )

    def _count_time(self, begun: float) -> float:
        """Add the seconds since `begun` to the training time; return the current time."""
        now = time.perf_counter()
        self.history.seconds += now - begun
        return now

    def _save(self) -> None:
        if self.checkpoint is not None:
            write_checkpoint(self.checkpoint, self.state_dict())

    def _batch(self, rows: np.ndarray, *, augment: bool) -> Batch:
        return self.preparation.batch(self.train.table, rows, augment=augment).to(self.compute.device)

    def _losses(self, network: Network, rows: np.ndarray, batch: Batch, dropout: float) -> tuple[Losses, EncodedInputs]:
        """The losses and the encoded inputs of a batch. Each input is encoded once for all outputs and objectives.

        Without outputs, an input is only encoded if an objective needs it.
        """
        encoded, predicted = EncodedInputs(LazyInputTokens(network.towers, batch), {}), {}
        if self.preparation.tasks:
            encoded = network.encode(batch)
            predicted = network.decode(network.fuse(encoded, len(batch), apply_modality_dropout(batch, dropout)), batch)
        again = partial(self._batch, rows, augment=True)
        progress = self.history.steps / max(1, self.total_steps)
        terms = network.objective_losses(ObjectiveBatch(network, batch, encoded.tokens, again, progress))
        return self.loss(predicted, batch, terms), encoded

    def _step(self, rows: np.ndarray) -> None:
        batch = self._batch(rows, augment=True)
        losses, encoded = self._losses(self.network, rows, batch, self.options.modality_dropout)
        total: Tensor = losses.total
        self.monitor.check_finite(total, batch)
        if losses.named and not total.requires_grad:
            raise RecipeError(
                "training.epochs",
                "the model has no trainable parameters: set training.epochs to 0, or unfreeze a part",
            )
        self.optimizer.zero_grad()
        if losses.named:  # else no row of the batch has the inputs of an objective
            self.loss.backward(losses, self.trainable_parameters, self.shared_parameters)
            self._balance_modalities(encoded, batch)
        step = self.history.steps + 1
        logged = step % self.options.logging_steps == 0 or step <= 5
        norms = self.monitor.gradient_norms() if logged else {}
        norm = clip_gradient(self.trainable_parameters, self.options.gradient_clip)
        self.optimizer.step()
        self.schedule.step()
        for objective in self.objectives.values():
            objective.after_step(self.network)
        self.history.steps, self.history.rows = step, self.history.rows + len(batch)
        for name, value in losses.parts.items():
            self.epoch_loss[name] = self.epoch_loss.get(name, 0.0) + float(value)
        if logged:
            self.monitor.check_gradients(norms)
            rate = self.schedule.get_last_lr()[0]
            self.log.write("step", step=step, loss=float(total.detach()), norm=float(norm), rate=rate, norms=norms)
        self.bar.status(step, self.total_steps, f"epoch {self.epoch + 1}  loss {float(total.detach()):.3f}")

    def _end_epoch(self) -> None:
        losses = {name: value / len(self.batches) for name, value in self.epoch_loss.items()}
        if self.epoch == 0:
            self.monitor.check_first_epoch(losses)
        result = self._validate()
        improved = self.best.offer(result.score, self.epoch + 1, self.network)
        self.epochs_without_improvement = 0 if improved else self.epochs_without_improvement + 1
        entry = Epoch(self.epoch + 1, self.history.steps, losses, result.metrics, result.losses, improved)
        self.history.epochs.append(entry)
        if not self.objectives and is_solved(self.preparation.tasks, self.history.epochs, self.valid):
            self.epochs_without_improvement = self.patience
        self.log.write("epoch", **asdict(entry))
        num_notices = len(self.monitor.notices)
        self.monitor.check_epoch(self.epoch + 1, losses)
        for notice in self.monitor.notices[num_notices:]:
            self.log.write("notice", text=notice)
        self._update_blending(losses)
        self.epoch, self.batch_index, self.epoch_loss = self.epoch + 1, 0, {}

    def _balance_modalities(self, encoded: EncodedInputs, batch: Batch) -> None:
        """Scale down the gradients of dominant towers."""
        options = self.options.modality_balancing
        if options.method not in ("ogm", "ogm_ge") or not self.preparation.tasks:
            return
        found = unimodal_scores(self.network, encoded, batch, self.preparation.tasks)
        modulate_gradients(self.network, found, options.alpha, options.method == "ogm_ge")

    def _update_blending(self, losses: dict[str, float]) -> None:
        """Update the branch weights of outputs every `interval_epochs` epochs."""
        blending = self.loss.blending
        if blending is None or (self.epoch + 1) % self.options.modality_balancing.interval_epochs:
            return
        train = {
            (output, branch): losses[key]
            for output in blending.outputs
            for branch in blending.branches
            if (key := output if branch == "joint" else f"{output}.branch.{branch}") in losses
        }
        valid = branch_losses(self.preparation.tasks, self._predict(), self.valid)
        blending.update(train, valid)

    def _objective_losses(self) -> ObjectiveLosses:
        rows, group_by_item = self.options.batch_size or 64, self.options.group_by_item
        return self.predictor.losses(self.valid, rows=rows, group_by_item=group_by_item)

    def _validate(self) -> Validation:
        objective_losses = self._objective_losses()
        losses = {name: loss for name, (loss, _) in objective_losses.items()}
        if not self.preparation.tasks:
            has_score = self.selects_best_epoch and objective_losses
            score = (
                objective_score(self.network, self.loss.weights, objective_losses) if has_score else float(self.epoch)
            )
            return Validation(score, {}, losses)
        found = validate(self.preparation.tasks, self._predict(), self.valid)
        return replace(found, losses=found.losses | losses)

    def _predict(self) -> dict[str, Predictions]:
        """The predictions for the validation rows."""
        with_texts = any(task.generates_for_selection for task in self.preparation.tasks.values())
        return self.predictor.predict(self.valid, with_texts=with_texts)

    def _select_weights(self) -> None:
        """Load the weights of the best epoch, or the average of the best epochs if it validates at least as well.

        Without a trained epoch, the current weights are kept. Then the fusion is calibrated.
        """
        if not self.best.epochs:
            self.best.offer(self._validate().score, 0, self.network)
        best = self.best.best()
        if len(self.best.weights) > 1:
            restore_state(self.network, self.best.average())
            if self._validate().score >= self.best.scores[0]:
                best = self.best.average()
                self.history.averaged_epochs = sorted(self.best.epochs)
        restore_state(self.network, best)
        self.network.eval()
        calibrate_fusion(self.network, self.preparation, self.valid, self.compute.device)

    def _trial_step(self, network: Network) -> None:
        """One forward and backward pass without an update, for timing on a copy of the network."""
        rows = self.batches[0]
        batch = self._batch(rows, augment=False)
        network.train()
        total: Tensor = self._losses(network, rows, batch, 0.0)[0].total
        if total.requires_grad:  # else all parameters are frozen
            total.backward()  # type: ignore[no-untyped-call]
        network.zero_grad()
