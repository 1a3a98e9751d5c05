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

from polymodal.checkpoint.training_state_file import TrainingState, add_prefix, optimizer_tensors, restore_optimizer
from polymodal.core.errors import ArtifactError, TrainingError
from polymodal.core.progress import Progress
from polymodal.core.types import Batch
from polymodal.data.partition import Split
from polymodal.distributed.world import SINGLE
from polymodal.inference.predictor import Predictor
from polymodal.nn.layers.shared_batch import share_statistics
from polymodal.nn.network import Network
from polymodal.preparation.preparation import Preparation, PreparedTable
from polymodal.recipe.recipe import Recipe
from polymodal.runtime.autotune import autotune, autotune_cache, unmeasured
from polymodal.runtime.compute import ComputeConfig, network_device
from polymodal.runtime.host_reads import can_read
from polymodal.training.averaging import BestEpochs, restore_state, trainable_state
from polymodal.training.batch_loader import BatchLoader
from polymodal.training.batches import make_sampler
from polymodal.training.calibration import calibrate_fusion
from polymodal.training.distillation import TeacherTargets
from polymodal.training.epoch_validation import EpochValidation
from polymodal.training.fingerprint import run_fingerprint
from polymodal.training.gradient_blending import branch_losses, branch_train_losses, make_blending
from polymodal.training.log import Log
from polymodal.training.loss import Loss
from polymodal.training.loss_meter import LossMeter
from polymodal.training.monitor import Monitor, first_judged_epoch
from polymodal.training.optimizer import freeze_parts, make_scaler
from polymodal.training.process_rows import ProcessRows
from polymodal.training.records import Epoch, History
from polymodal.training.replicas import (
    check_chunks,
    copy_from_first,
    copy_parts_from_first,
    mark_rows,
    random_states,
    restore_random_states,
    start_replicas,
)
from polymodal.training.run_checkpoint import RunCheckpoint
from polymodal.training.schedule import Schedule
from polymodal.training.sharded_training import is_sharded_run, tensor_pattern
from polymodal.training.training_step import StepLosses, TrainingStep
from polymodal.training.validation import is_solved

#: Rows from which the memory of a row is measured.
MEASURED_ROWS = 8


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
    world: the processes that train the network together, each of which computes its rows of every batch; default: this
        one alone
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
        freeze_parts(network, options)
        self.objectives = network.objectives
        objective_weights = {name: one.options.weight for name, one in self.objectives.items()}
        weights = {name: spec.loss_weight for name, spec in recipe.outputs.items()} | objective_weights
        self.loss = Loss(
            preparation.tasks, weights, options.loss_balancing, teacher_targets, make_blending(network, options)
        )
        self.loss.to(network_device(network))
        self.monitor = Monitor(network, {name: task.baseline_loss() for name, task in preparation.tasks.items()})
        self.step = TrainingStep(network, preparation.tasks, options, self.loss, self.monitor)
        self.optimizer = self.step.optimizer
        self.is_solved = False
        self.sampler = make_sampler(recipe, network, preparation, self.train)
        self.epoch, self.batch_index = 0, 0
        self.batches = self.sampler.epoch(0)
        patience = options.early_stopping_patience
        self.schedule = Schedule(self.optimizer, options.epochs, len(self.batches), options.warmup_ratio, patience)
        self.deadline, self.world = math.inf, SINGLE
        self.selects_best_epoch = bool(preparation.tasks) or all(
            one.usable_for_model_selection for one in self.objectives.values()
        )
        self.best = BestEpochs(options.average_top_k if self.selects_best_epoch else 1)
        self.history = History()
        self.monitor.first_judged_epoch = first_judged_epoch(len(self.batches), self.schedule.warmup_steps)
        self.fingerprint, self.seed = run_fingerprint(recipe, self.train), recipe.seed
        self.epoch_losses, self.last_loss = LossMeter(), math.nan
        self.rows = ProcessRows(preparation, self.train, SINGLE)
        self.compute = ComputeConfig(device=network_device(network))
        self.loader = BatchLoader(partial(self._build, augment=True), self.compute.device)

    def run(self, *, resume: bool = False) -> History:
        """Train to the last epoch, or until validation has not improved for `early_stopping_patience` epochs or cannot.
        The selected weights are from the end of the schedule or, after an early stop, from the annealing that follows.

        resume: continue from the checkpoint in the folder, if there is one

        Raises:
            ArtifactError: the checkpoint belongs to another recipe or to other training rows.
            TrainingError: a number is not finite, no training row has a target, or no training row has the inputs of an
                objective.
        """
        targets = self.train.table.targets.values()
        if not self.objectives and not any(known[self.train.rows].any() for _, known in targets):
            raise TrainingError("no training row has a target")
        world, checkpoint = self.world, self.checkpoint
        world.check_same("training table or recipe", self.fingerprint)
        check_chunks(self.network, self.options.grad_cache_chunk_size, world)
        self.rows, self.writes = ProcessRows(self.preparation, self.train, world), world.agree(self.folder is not None)
        is_sharded = is_sharded_run(self.options, self.network, world, self.compute.device)
        if is_sharded:
            self._divide()
        pattern = tensor_pattern(self.network) if is_sharded else None
        if (state := checkpoint.read(pattern) if resume else None) is not None:
            self.load_state_dict(state)
        else:
            self._choose_compute(is_sharded)
            start_replicas(self.network, world, self.seed)
        self.monitor.check_compute(self.compute)
        if (self.options.epochs or 0) > 1:
            known = {name: present[self.valid.rows] for name, (_, present) in self.valid.table.targets.items()}
            self.monitor.check_validation_rows({name: int(present.sum()) for name, present in known.items()})
        last_step = None if state is None else self.history.steps
        with (
            closing(Log(self.folder, tensorboard=self.options.tensorboard, keep=last_step)) as self.log,
            self.progress.task(self.title, 1) as self.bar,
        ):
            started, first = time.perf_counter(), self.epoch
            while not self.schedule.is_over(self.epoch):
                self.batches = self.sampler.epoch(self.epoch)
                self.network.train()
                begun = time.perf_counter()
                with self.compute.active(), share_statistics(self.network, world):
                    while self.batch_index < len(self.batches):
                        self._step(self.batches[self.batch_index])
                        self.batch_index += 1
                        if self.history.steps % self.options.save_steps == 0 and self.batch_index < len(self.batches):
                            begun = self._count_time(begun)
                            self._save()
                        elif self.batch_index < len(self.batches):
                            self.loader.prefetch(self.rows.own(self.batches[self.batch_index]))
                self._count_time(begun)
                self._end_epoch()
                self._plan_epochs((time.perf_counter() - started) / (self.epoch - first))
                self._save()
            self._select_weights()
            if self.epoch:
                self.monitor.check_objectives(self.validation.objective_losses(), self.epoch)
            self.history.notices = self.monitor.notices
            steps, epochs = self.history.steps, len(self.history.epochs)
            self.bar.status(steps, steps, f"{epochs} epochs, best {self.best.epochs[0]}")
        return self.history

    @property
    def checkpoint(self) -> RunCheckpoint:
        """The state from which an interrupted run resumes."""
        return RunCheckpoint(self.folder, self.world)

    def state_dict(self) -> TrainingState:
        """The complete state of the run, for exact resumption."""
        tensors = random_states(self.world)
        tensors |= add_prefix("network.", trainable_state(self.network))
        tensors |= add_prefix("loss.", self.loss.state_dict())
        tensors |= add_prefix("optimizer.", optimizer_tensors(self.optimizer, self.step.names()))
        tensors |= add_prefix("best.", self.best.state_dict())
        facts = {
            "fingerprint": self.fingerprint,
            "epoch": self.epoch,
            "batch_index": self.batch_index,
            "epoch_loss": self.epoch_losses.read(),
            "scores": self.best.scores,
            "epochs": self.best.epochs,
            "history": self.history.state_dict(),
            "notices": self.monitor.notices,
            "zero_grad_steps": self.monitor.zero_grad_steps,
            "schedule": self.schedule.state_dict(),
            "compute": vars(self.compute),
            "scaler": self.step.scaler.state_dict(),
            "parts": self.step.parts.count,
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
                f"the checkpoint in {self.folder} belongs to another recipe or to other training rows: use the recipe "
                "and data of the interrupted run, or start again with overwrite"
            )
        restore_state(self.network, state.with_prefix("network."))
        self.loss.load_state_dict(state.with_prefix("loss."))
        restore_optimizer(self.optimizer, state.with_prefix("optimizer."), self.step.names())
        self.epoch, self.batch_index = facts["epoch"], facts["batch_index"]
        self.epoch_losses = LossMeter(facts["epoch_loss"])
        self.best.load_state_dict(state.with_prefix("best."), facts["scores"], facts["epochs"])
        self.history = History.from_state(facts["history"])
        self.monitor.notices, self.monitor.zero_grad_steps = facts["notices"], facts["zero_grad_steps"]
        self.compute = replace(ComputeConfig(**facts["compute"]), device=self.compute.device).supported()
        self.step.scaler = make_scaler(self.compute, facts["scaler"])
        self.step.parts.set_count(facts["parts"], self.options.batch_size or 1)
        self.schedule.load_state_dict(facts["schedule"], self.history.steps)
        restore_random_states(state.tensors, self.world, self.seed, self.history.steps)

    @property
    def validation(self) -> EpochValidation:
        """The validation rows, predicted with the current weights."""
        shards, rows = self.step.shards, 4 * (self.options.batch_size or 64)
        predictor = Predictor(self.network, self.preparation, self.compute, rows)
        weights, selects = self.loss.weights, self.selects_best_epoch
        found = EpochValidation(predictor, self.valid, self.options, weights, selects, self.world)
        return found if shards is None else found.with_shards(shards)

    def _plan_epochs(self, seconds: float) -> None:
        """After the first epoch, plan fewer epochs if all would end after the deadline. When training is stopped early,
        go back to the best epoch and plan its annealing.

        seconds: the duration of an epoch with its validation
        """
        possible = self.world.agree((self.deadline - time.perf_counter()) / max(seconds, 1e-9))
        planned, schedule, last = self.schedule.num_planned, self.schedule, self.history.epochs[-1]
        if self.epoch == 1 and 1 + max(1.0, possible) < planned:
            schedule.plan(int(1 + max(1.0, possible)), self.history.steps)
            self.monitor.notices.append(f"the time limit allows {schedule.num_planned} of {planned} epochs")
        if schedule.is_stopped and schedule.annealing is None and not self.is_solved:
            source = self.history.epochs[self.best.epochs[0] - 1]
            if not schedule.is_annealed(source.step) and schedule.anneal(source, last, possible):
                restore_state(self.network, self.best.best())
                self.best = BestEpochs(self.best.count)
                self.history.annealed_from = source.epoch

    def _count_time(self, begun: float) -> float:
        """Add the seconds since `begun` to the training time; return the current time."""
        now = time.perf_counter()
        self.history.seconds += now - begun
        return now

    def _save(self) -> None:
        if self.writes:
            self.checkpoint.write(self.state_dict())

    def _build(self, rows: np.ndarray, *, augment: bool) -> Batch:
        return self.rows.batch(rows, augment=augment)

    def _batch(self, rows: np.ndarray, *, augment: bool) -> Batch:
        return self._build(rows, augment=augment).to(self.compute.device)

    def _step(self, rows: np.ndarray) -> None:
        own, world, step = self.rows.own(rows), self.world, self.history.steps + 1
        if world.size > 1:
            mark_rows(self.network, bool(len(own)))
        batch, progress = self.loader.load(own), self.history.steps / max(1, self.schedule.total_steps)
        logged = step % self.options.logging_steps == 0 or step <= 5
        again, dropout = partial(self._batch, own, augment=True), self.options.modality_dropout
        losses: StepLosses | None = None
        while losses is None:
            found = None
            try:
                compute = partial(self.step.losses, self.network, batch, again, progress, dropout, world)
                found = compute() if self.step.shards is None else self.step.gathered(compute, batch, world)
                losses = self.step.backward(*found, batch, world, reads=logged)
            except RuntimeError as error:
                self.step.check_error(error, world)
            if losses is None:
                found = None  # frees the graph
                self.step.split(batch)
        norms = self.monitor.gradient_norms() if logged else {}
        norm = self.step.update(losses)
        self.schedule.rates.step()
        for objective in self.objectives.values():
            objective.after_step(self.network)
        self.history.steps, self.history.rows = step, self.history.rows + len(rows)
        self.epoch_losses.add(losses.parts)
        if logged or can_read(losses.total):
            self.last_loss = float(losses.total)
        if logged:
            self.epoch_losses.read()
            self.monitor.check_gradients(norms)
            rate = self.schedule.rates.get_last_lr()[0]
            self.log.write("step", step=step, loss=self.last_loss, norm=float(norm), rate=rate, norms=norms)
        self.bar.status(step, self.schedule.total_steps, f"epoch {self.epoch + 1}  loss {self.last_loss:.3f}")

    def _end_epoch(self) -> None:
        losses = {name: value / len(self.batches) for name, value in self.epoch_losses.read().items()}
        if self.epoch == 0:
            self.monitor.check_first_epoch(losses)
        result = self.validation.score(self.epoch)
        previous = self.history.epochs[-1].step if self.history.epochs else 0
        if self.schedule.is_annealed(self.history.steps) and not self.schedule.is_annealed(previous):
            self.best = BestEpochs(self.best.count)  # only annealed epochs are kept
        improved = self.best.offer(result.score, self.epoch + 1, self.network)
        entry = Epoch(self.epoch + 1, self.history.steps, losses, result.metrics, result.losses, improved)
        self.history.epochs.append(entry)
        self.is_solved = not self.objectives and is_solved(self.preparation.tasks, self.history.epochs, self.valid)
        self.schedule.record(result.score, is_solved=self.is_solved)
        self.log.write("epoch", **asdict(entry))
        num_notices = len(self.monitor.notices)
        self.monitor.check_epoch(self.epoch + 1, losses)
        for notice in self.monitor.notices[num_notices:]:
            self.log.write("notice", text=notice)
        self._update_blending(losses)
        self.epoch, self.batch_index, self.epoch_losses = self.epoch + 1, 0, LossMeter()

    def _update_blending(self, losses: dict[str, float]) -> None:
        """Update the branch weights of outputs every `interval_epochs` epochs."""
        blending = self.loss.blending
        if blending is None or (self.epoch + 1) % self.options.modality_balancing.interval_epochs:
            return
        valid = branch_losses(self.preparation.tasks, self.validation.predictions(), self.valid)
        blending.update(branch_train_losses(blending, losses), valid)
        copy_from_first(blending, self.world)

    def _select_weights(self) -> None:
        """Load the weights of the best kept epoch, or the average of the best epochs if it validates at least as well.

        Without a trained epoch, the current weights are kept. Then the fusion is calibrated.
        """
        if not self.best.epochs:
            self.best.offer(self.validation.score(self.epoch).score, 0, self.network)
        best = self.best.best()
        if len(self.best.weights) > 1:
            restore_state(self.network, self.best.average())
            if self.validation.score(self.epoch).score >= self.best.scores[0]:
                best = self.best.average()
                self.history.averaged_epochs = sorted(self.best.epochs)
        restore_state(self.network, best)
        if self.step.shards is not None:
            self.network, self.step.shards = self.step.shards.finish(), None
        self.network.eval()
        calibrate_fusion(self.network, self.preparation, self.valid, self.compute.device)
        copy_from_first(self.network, self.world)

    def _divide(self) -> None:
        """Divide the network among the processes, with the weights of process 0."""
        sources = trainable_state(self.network) if self.world.is_first else {}
        self.step.divide(self.world)
        copy_parts_from_first(self.network, sources, self.world)
        self.optimizer = self.step.optimizer
        self.schedule.use(self.optimizer)

    def _choose_compute(self, is_sharded: bool) -> None:
        """Choose the precision, the threads and the parts of a step, by measurements on a copy of the whole network. A
        sharded network has no copy in one process."""
        world, device = self.world, self.compute.device
        if is_sharded:
            choice = world.agree(vars(unmeasured(self.options, device)))
        else:
            some = partial(self._batch, self.batches[0][:MEASURED_ROWS], augment=False)
            self.step.plan_memory(-(-len(self.batches[0]) // world.size), some, device)
            choice = world.first(lambda: vars(autotune(self.options, self.network, self._trial_step, autotune_cache())))
        self.compute = replace(ComputeConfig(**choice), device=device)
        self.step.scaler = make_scaler(self.compute)

    def _trial_step(self, network: Network) -> None:
        """One forward and backward pass without an update, for timing on a copy of the network."""
        rows, progress = self.batches[0], self.history.steps / max(1, self.schedule.total_steps)
        batch = self._batch(rows, augment=False)
        self.step.trial(network, batch, partial(self._batch, rows, augment=True), progress)
