"""A network without frozen checkpoints beside the members of a model; the better of the two is the model."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from polymodal.core.paths import media_cache_folder
from polymodal.core.progress import Progress
from polymodal.core.writing import write_text
from polymodal.data.partition import Split
from polymodal.data.table.table import Table
from polymodal.estimators.base import EstimatorTarget
from polymodal.experiments.experiment import Experiment, prepare_together
from polymodal.experiments.fit_calibration import fit_scale, lower_bound, row_losses
from polymodal.experiments.member_rows import MemberRows
from polymodal.experiments.plan import Plan
from polymodal.experiments.train_network import train_network
from polymodal.model.model import Model
from polymodal.model.run_record import MemberRecord

#: Part of the time until a deadline that the members have if there is an alternative.
MEMBERS_SHARE = 0.6
#: Confidence of the comparison: high, because the epoch of the network is chosen on the same rows.
CONFIDENCE = 0.99
#: The folder of its checkpoint and log in a model directory.
FOLDER = "alternative"
#: Its name in the leaderboard.
NAME = "network without checkpoints"


@dataclass(frozen=True)
class RunFiles:
    """Where a run writes its checkpoints and logs.

    path: the model directory; None writes nothing
    resume: continue from the checkpoints there, if there are some
    """

    path: Path | None = None
    resume: bool = False


@dataclass(frozen=True)
class Trained:
    """A trained model, and the experiment whose rows it reads."""

    experiment: Experiment
    model: Model
    is_alternative: bool = False


def members_deadline(plan: Plan, deadline: float) -> float:
    """The time at which the training of the members should end: an alternative has 40 % of the time."""
    now = time.perf_counter()
    return deadline if plan.alternative is None else now + MEMBERS_SHARE * (deadline - now)


def choose_alternative(
    plan: Plan,
    members: Trained,
    splits: Mapping[str, Split[Table]],
    folder: Path,
    files: RunFiles,
    *,
    progress: Progress,
    deadline: float = math.inf,
) -> Trained:
    """Train the alternative of a plan, if there is one, and return the better of the two models.

    members: the trained model of the recipe of the plan
    folder: folder for the tensors that are prepared for the alternative
    deadline: the time (`time.perf_counter()`) at which the training should end
    """
    if plan.alternative is None:
        return members
    place = folder / FOLDER
    place.mkdir()
    world, cache = members.experiment.world, media_cache_folder()
    experiment = prepare_together(plan.alternative, splits, folder=place, cache=cache, progress=progress, world=world)
    return train_alternative(members, experiment, files, progress=progress, deadline=deadline)


def train_alternative(
    members: Trained,
    alternative: Experiment,
    files: RunFiles,
    *,
    progress: Progress,
    deadline: float = math.inf,
) -> Trained:
    """Train the network of `alternative`, and return the better of the two models.

    Frozen checkpoints may hide what decides: the color of a drawing, or a relation between a question and an image. The
    network replaces the members only if a paired test over the validation rows finds its loss lower with a confidence
    of 99 %, by at least the resolution of the rows (`_resolution`); the predictions of the members for these rows are
    out of fold. The record of the returned model names both.

    alternative: the same rows, prepared for the network
    deadline: see `train_network.TrainingJob`
    """
    begun = time.perf_counter()
    place = None if files.path is None else files.path / FOLDER
    if place is not None:
        write_text(place / "recipe.yaml", alternative.recipe.to_yaml())
    title = "train a network without checkpoints"
    network = train_network(
        alternative, folder=place, resume=files.resume, progress=progress, title=title, deadline=deadline
    )
    split = alternative.feature_splits(network.network, progress)["validation"]
    predictions = network.predictor.predict(split)
    ensemble = members.model.ensemble
    assert ensemble is not None, "the first model has members"
    own = {name: one.values.numpy() for name, one in predictions.items()}
    theirs, its, bound = _compare(members.experiment, ensemble.held_out, own)
    is_better = alternative.world.agree(bound > 0)
    seconds = round(time.perf_counter() - begun, 3)
    record = MemberRecord(NAME, (), its, dict.fromkeys(its, float(is_better)), seconds)
    losses = ", ".join(f"{name}: {its[name]:.3g} against {theirs[name]:.3g}" for name in its)
    verdict = "is the model" if is_better else "is not better beyond doubt"
    notice = f"a {NAME} {verdict} (loss on the validation rows, {losses})"
    chosen = Trained(alternative, network, is_alternative=True) if is_better else members
    others = members.model.run.members
    if is_better:
        others = tuple(replace(one, weight=dict.fromkeys(one.weight, 0.0)) for one in others)
    run, spent = chosen.model.run, members.model.run.seconds.training + seconds
    chosen.model.run = replace(
        run,
        members=(*others, record),
        notices=(*run.notices, notice),
        seconds=replace(run.seconds, training=round(spent, 3)),
    )
    return chosen


def _compare(
    experiment: Experiment, members: Mapping[str, np.ndarray], network: Mapping[str, np.ndarray]
) -> tuple[dict[str, float], dict[str, float], float]:
    """The loss of the members and of the network by output, and the lower bound of how much better the network is than
    the members by more than the resolution of the rows, in the mean of the outputs.

    members, network: by output, raw predictions `[rows, k]` of the validation rows
    """
    rows = MemberRows((experiment.splits["validation"],), ())
    theirs, its, differences, weights, least = {}, {}, [], [], 0.0
    for name, task in experiment.preparation.tasks.items():
        positions, target = rows.target(name, task)
        first, second = members[name][positions], network[name][positions]
        known = np.isfinite(first).all(1)
        first, second, target = first[known], second[known], target.take(np.flatnonzero(known))
        losses = row_losses(first, target), row_losses(fit_scale(second, target) * second, target)
        theirs[name], its[name] = (float(np.average(one, weights=target.weight)) for one in losses)
        differences.append(losses[0] - losses[1])
        weights.append(target.weight / target.weight.sum())
        least += _resolution(target) / len(members)
    return theirs, its, lower_bound(np.concatenate(differences), np.concatenate(weights), CONFIDENCE) - least


def _resolution(target: EstimatorTarget) -> float:
    """The difference of mean losses that says nothing: for classes and labels, 1 / rows.

    If a model is right in all of n rows, they support no probability above 1 - 1 / n, whose loss is 1 / n; the loss of
    a network that is surer than that is lower in every row, and a paired test alone would call it better.
    """
    return 0.0 if target.space == "real" else 1.0 / max(1, len(target))
