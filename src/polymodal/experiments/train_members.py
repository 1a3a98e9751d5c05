"""Training of several members on the same rows, their selection, and the model that combines them."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from polymodal.core.formatting import join_words
from polymodal.core.paths import media_cache_folder
from polymodal.core.progress import Progress
from polymodal.core.registry import build
from polymodal.core.writing import write_text
from polymodal.data.partition import Split
from polymodal.estimators.base import Estimator
from polymodal.experiments.calibration import member_calibration
from polymodal.experiments.ensemble_selection import Selection, select_members
from polymodal.experiments.experiment import Experiment
from polymodal.experiments.member_rows import MemberRows
from polymodal.experiments.taught_targets import TaughtTargets
from polymodal.experiments.time_limit import encoding_seconds, member_seconds, warn_of_limit
from polymodal.experiments.train_network import train_network
from polymodal.features.feature_set import FeatureSet
from polymodal.features.feature_table import FeatureTable
from polymodal.inference.ensemble_predictor import NETWORK, EstimatorMember, FittedEnsemble, average_networks
from polymodal.model.make_encoders import make_encoders, share_frozen_encoders
from polymodal.model.model import Model
from polymodal.model.run_record import Durations, MemberRecord, RunRecord
from polymodal.nn.encoders.base import Encoder
from polymodal.runtime.compute import keep_freed_memory

#: The epochs that a network has at least, whatever the deadline.
MIN_EPOCHS = 2


@dataclass
class _Candidate:
    """A member that is compared.

    values: by output, raw out-of-fold predictions `[rows, k]` of all pooled rows, NaN without one
    """

    name: str
    inputs: tuple[str, ...]
    values: dict[str, np.ndarray]
    seconds: float
    member: EstimatorMember | None = None
    models: list[Model] = field(default_factory=list)


def train_members(
    experiment: Experiment,
    *,
    folder: Path | None = None,
    resume: bool = False,
    progress: Progress,
    title: str = "train",
    log_parameters: bool = False,
    deadline: float = math.inf,
) -> Model:
    """Fit the estimators of the recipe and, if it has one, the network; select and combine them out of fold.

    The members are compared on the training and validation rows together: each predicts rows that it was not fitted
    on. Estimators come first, because they cost least. After half of the time until the deadline, or all of it without
    a network, no further estimator is begun, nor one that would end after the deadline, but there is at least one
    member. A network that cannot end by then is left out if there is another member. Where the features alone need more
    time, a warning says so before they are computed.

    For the arguments, see `train_network.TrainingJob`.
    """
    keep_freed_memory()
    recipe, begun = experiment.recipe, time.perf_counter()
    rows = MemberRows.of(experiment, recipe.ensemble.folds or 1)
    encoders = make_encoders(recipe, experiment.preparation, recipe.inputs, pretrained=True)
    features = FeatureSet(recipe, experiment.preparation, encoders, media_cache_folder())
    train, limits = experiment.splits["train"], _Limits(experiment, rows, begun, deadline)
    limits.warn(encoders)
    with progress.task("features", None):
        table = rows.fit_features(features, train.rows)
    members = recipe.members or []
    taught = TaughtTargets(experiment, rows) if recipe.training.distillation.teacher is not None else None
    candidates: list[_Candidate] = []
    left_out: list[str] = []
    for number, name in enumerate(member_names(members)):
        if not candidates:
            limits.warn_of_member(table, name)
        if not candidates or limits.has_time(table, number):
            candidates.append(_fit_estimator(experiment, (rows, taught), table, number, name, progress))
        else:
            left_out.append(name)
    if recipe.network:
        run = _NetworkRun(experiment, folder, resume, progress, title, log_parameters, deadline)
        network = run.candidate(rows, is_needed=not candidates)
        candidates += [network] if network is not None else []
        left_out += [NETWORK] if network is None else []
    selections = {name: _select(experiment, rows, candidates, name) for name in experiment.preparation.tasks}
    values = _combined(experiment, candidates, selections)
    positions = rows.positions_of(experiment.splits["validation"])
    held_out = {output: one[positions] for output, one in values.items()}
    model = _assemble(experiment, features, encoders, candidates, selections, held_out)
    model.calibration = member_calibration(experiment.preparation.tasks, rows, values)
    records = tuple(_record(one, selections, experiment) for one in candidates)
    seconds = Durations(round(time.perf_counter() - begun, 3))
    notices = list(model.run.notices)
    if left_out:
        notices.append(f"the time limit left no time for {join_words(left_out)}")
    if model.ensemble is not None and (count := len(model.ensemble.networks)) > 1:
        notices.append(f"the member {NETWORK!r} is the mean of {count} networks, each trained without one fold")
    model.run = replace(model.run, members=records, seconds=seconds, notices=tuple(notices))
    if taught is not None:
        model.run = replace(model.run, teacher=taught.record)
    return model


@dataclass(frozen=True)
class _Limits:
    """The time of the members: from `begun` to `deadline`, in `time.perf_counter()`."""

    experiment: Experiment
    rows: MemberRows
    begun: float
    deadline: float

    def warn(self, encoders: dict[str, Encoder]) -> None:
        """Warn before the items are encoded if this alone needs more time."""
        one = self.experiment
        if math.isfinite(self.deadline) and one.world.is_first:
            tables = [split.table for split in self.rows.parts]
            seconds = sum(encoding_seconds(one.recipe, one.preparation, encoders, table) for table in tables)
            work = f"encoding {sum(map(len, tables)):,} rows, unless they are in the cache,"
            warn_of_limit(self.deadline - time.perf_counter(), seconds, work)

    def warn_of_member(self, table: FeatureTable, name: str) -> None:
        """Warn before the first member is fitted if it needs more time."""
        one = self.experiment
        if math.isfinite(self.deadline) and one.world.is_first:
            seconds = member_seconds(one.recipe, one.preparation.tasks, self.rows, table, 0)
            warn_of_limit(self.deadline - time.perf_counter(), seconds, f"the member {name}")

    def has_time(self, table: FeatureTable, number: int) -> bool:
        """Whether an estimator may be begun and would end in time."""
        one = self.experiment
        share = (self.deadline - self.begun) / (2 if one.recipe.network else 1)
        has_time = time.perf_counter() < self.begun + share
        if has_time and math.isfinite(self.deadline):
            seconds = member_seconds(one.recipe, one.preparation.tasks, self.rows, table, number)
            has_time = time.perf_counter() + seconds < self.deadline
        return one.world.agree(has_time)


def _fit_estimator(
    experiment: Experiment,
    source: tuple[MemberRows, TaughtTargets | None],
    table: FeatureTable,
    number: int,
    name: str,
    progress: Progress,
) -> _Candidate:
    """Fit one estimator for each output, and predict the held-out rows.

    source: the rows, and their targets from a teacher if there is one
    """
    rows, taught = source
    options: Any = (experiment.recipe.members or [])[number]
    begun = time.perf_counter()
    selected = table.select(options.inputs)
    estimators: dict[str, Estimator] = {}
    values: dict[str, np.ndarray] = {}
    with progress.task(name, None):
        for output, task in experiment.preparation.tasks.items():
            positions, target = rows.target(output, task) if taught is None else taught.target(rows, output, task)
            estimator: Estimator = build("estimator", options, f"members.{number}", seed=experiment.recipe.seed)
            found = estimator.cross_fit(selected.take(positions), target, rows.folds_of(positions))
            values[output] = np.full((len(rows), task.output_size), np.nan, np.float32)
            values[output][positions] = found
            estimators[output] = estimator
    member = EstimatorMember(name, number, tuple(options.inputs), estimators)
    return _Candidate(name, tuple(options.inputs), values, time.perf_counter() - begun, member)


def member_names(members: Sequence[Any]) -> list[str]:
    """The names of members in the leaderboard: `linear`, `linear: title + image`; with a number if one occurs twice."""
    names: list[str] = []
    for options in members:
        name = f"{options.name}: {' + '.join(options.inputs)}" if options.inputs else options.name
        count = sum(one == name or one.startswith(f"{name} (") for one in names)
        names.append(f"{name} ({count + 1})" if count else name)
    return names


@dataclass(frozen=True)
class _NetworkRun:
    """The training of a network in each fold; for the fields, see `train_network.TrainingJob`."""

    experiment: Experiment
    folder: Path | None
    resume: bool
    progress: Progress
    title: str
    log_parameters: bool
    deadline: float

    def candidate(self, rows: MemberRows, *, is_needed: bool) -> _Candidate | None:
        """Train a network in each fold, which is validated on the held-out rows, and predict these rows. None if there
        is no time for all folds, unless it is needed."""
        if not is_needed and not self.experiment.world.agree(time.perf_counter() < self.deadline):
            return None
        begun, tasks = time.perf_counter(), self.experiment.preparation.tasks
        values = {name: np.full((len(rows), task.output_size), np.nan, np.float32) for name, task in tasks.items()}
        models: list[Model] = []
        for number, fold in enumerate(rows.folds):
            several = len(rows.folds) > 1
            own = self._in_fold(rows, number) if several else self.experiment
            folder = self.folder
            if folder is not None and several:
                folder = folder / f"fold-{number}"
                write_text(folder / "recipe.yaml", own.recipe.to_yaml())
            now = time.perf_counter()
            model = train_network(
                own,
                folder=folder,
                resume=self.resume,
                progress=self.progress,
                title=f"{self.title} (fold {number + 1} of {len(rows.folds)})" if several else self.title,
                log_parameters=self.log_parameters and number == 0,
                deadline=now + (self.deadline - now) / (len(rows.folds) - number),
            )
            split = own.feature_splits(model.network, self.progress)["validation"]
            found = average_networks([model.predictor.predict(split)], self.experiment.preparation)
            for name, one in found.items():
                values[name][fold.held_out] = one
            models.append(model)
            left = len(rows.folds) - number - 1
            seconds = (time.perf_counter() - now) * min(1.0, MIN_EPOCHS / max(1, len(model.run.history)))
            has_time = left == 0 or time.perf_counter() + left * seconds < self.deadline
            if not is_needed and not self.experiment.world.agree(has_time):
                return None
            share_frozen_encoders(own.recipe, [one.network for one in models])
        return _Candidate(NETWORK, (), values, time.perf_counter() - begun, models=models)

    def _in_fold(self, rows: MemberRows, number: int) -> Experiment:
        (pooled,), fold = rows.parts, rows.folds[number]
        splits = {
            "train": Split(pooled.table, pooled.rows[fold.train]),
            "validation": Split(pooled.table, pooled.rows[fold.held_out]),
        }
        return replace(self.experiment, splits=splits)


def _select(experiment: Experiment, rows: MemberRows, candidates: list[_Candidate], output: str) -> Selection:
    """Select the members of one output on the rows that all candidates predict out of fold."""
    positions, target = rows.target(output, experiment.preparation.tasks[output])
    values = {one.name: one.values[output][positions] for one in candidates}
    known = np.all([np.isfinite(one).all(1) for one in values.values()], axis=0)
    chosen = np.flatnonzero(known)
    return select_members(
        {name: one[chosen] for name, one in values.items()}, target.take(chosen), experiment.recipe.ensemble
    )


def _combined(
    experiment: Experiment, candidates: list[_Candidate], selections: dict[str, Selection]
) -> dict[str, np.ndarray]:
    """By output, the out-of-fold predictions `[rows, k]` of the combination for all pooled rows, NaN without one."""
    return {
        output: selections[output].combination.combine({one.name: one.values[output] for one in candidates}, task.space)
        for output, task in experiment.preparation.tasks.items()
    }


def _assemble(
    experiment: Experiment,
    features: FeatureSet,
    encoders: dict[str, Encoder],
    candidates: list[_Candidate],
    selections: dict[str, Selection],
    held_out: dict[str, np.ndarray],
) -> Model:
    """The model of all members with a weight."""
    used = {name for selection in selections.values() for name in selection.combination.weights}
    members = tuple(one.member for one in candidates if one.member is not None and one.name in used)
    models = [model for one in candidates if one.name in used for model in one.models]
    networks = tuple(model.network for model in models)
    if networks:
        encoders = networks[0].encoders()
    final = FeatureSet(experiment.recipe, experiment.preparation, encoders, media_cache_folder())
    final.load(features.state())
    combinations = {name: selection.combination for name, selection in selections.items()}
    unimodal = _best_unimodal(candidates, selections, list(experiment.recipe.inputs))
    ensemble = FittedEnsemble(final, encoders, members, networks, combinations, unimodal, held_out)
    recipe = models[0].recipe if models else experiment.recipe
    run = models[0].run if models else RunRecord()
    return Model(recipe, experiment.preparation, networks[0] if networks else None, run=run, ensemble=ensemble)


def _best_unimodal(
    candidates: list[_Candidate], selections: dict[str, Selection], inputs: list[str]
) -> dict[str, EstimatorMember]:
    """The member with the lowest loss of the first output among those that read only one input, by input."""
    losses = next(iter(selections.values())).losses
    found: dict[str, EstimatorMember] = {}
    for one in sorted(candidates, key=lambda one: -losses[one.name]):
        if one.member is not None and len(one.inputs) == 1:
            found[one.inputs[0]] = one.member
    return {name: found[name] for name in inputs if name in found}


def _record(candidate: _Candidate, selections: dict[str, Selection], experiment: Experiment) -> MemberRecord:
    return MemberRecord(
        candidate.name,
        candidate.inputs,
        {output: selection.losses[candidate.name] for output, selection in selections.items()},
        {output: selection.combination.weights.get(candidate.name, 0.0) for output, selection in selections.items()},
        round(candidate.seconds, 3),
    )
