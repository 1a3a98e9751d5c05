"""Baselines beside every search: the constant answer, linear models and boosted trees on fixed features."""

from __future__ import annotations

import time

import numpy as np

from polymodal.core.progress import Progress
from polymodal.preparation.preparation import Preparation
from polymodal.tuning.candidate import Candidate, Distributions
from polymodal.tuning.features import WORDS_PREFIX
from polymodal.tuning.folds import Folds
from polymodal.tuning.frozen_baselines import BASELINE_MODELS, FrozenFeatureBaselines, BaselineKind

#: Bytes of one learned number.
BYTES_PER_PARAMETER = 4


def run_baselines(folds: Folds, *, progress: Progress, models: FrozenFeatureBaselines | None = None) -> list[Candidate]:
    """The constant answer, and each learner (`linear`, `trees`; `baseline_models`) on each input alone and on all.

    Every baseline learns, in each fold, from the rows of training and validation together (it chooses by inner folds,
    grouped as the outer ones are) and decides the rows of the fold. Rows without the target are not learned from.
    Outputs that are decided moment by moment (`spans`) have no baselines; then the constant answer stands there.

    models: what has been decided already, shared with `audit`; its `notes` say what was left out

    A text with a checkpoint is also read as the words that it is made of, without the checkpoint (`words of NAME`).

    Returns baselines named `constant`, `linear: text`, `trees: text + image` ...; `recipe` is None. `seconds` are those
    of learning and deciding; making the features is not in them.
    """
    models = models or FrozenFeatureBaselines(folds, progress=progress)
    subsets: list[tuple[str, ...]] = [(name,) for name in (*models.inputs, *models.features.words)]
    if len(models.inputs) > 1:
        subsets.append(tuple(models.inputs))
    planned: list[tuple[BaselineKind, tuple[str, ...]]] = [("constant", ())]
    for subset in subsets:
        used = [one for one in BASELINE_MODELS if any(one in models.learners(output) for output in models.outputs)]
        planned += [(learner, subset) for learner in used]
    constants = _constants(folds)
    found = []
    with progress.task("baselines", len(planned)) as advance:
        for learner, subset in planned:
            found.append(_baseline(models, learner, subset, constants))
            advance(1)
    return found


def baseline_name(learner: BaselineKind, inputs: tuple[str, ...]) -> str:
    return f"{learner}: {' + '.join(inputs)}" if inputs else learner


def baseline_inputs(name: str) -> list[str]:
    """The inputs that the baseline called `name` reads."""
    _, _, read = name.partition(": ")
    return [one.removeprefix(WORDS_PREFIX) for one in read.split(" + ")] if read else []


def _baseline(models: FrozenFeatureBaselines, learner: BaselineKind, inputs: tuple[str, ...], constants: Distributions) -> Candidate:
    folds, begun = models.folds, time.perf_counter()
    distributions, parameters = dict(constants), sum(task.output_size for task in folds.tasks.values())
    seconds = 0.0
    for output in models.outputs if learner != "constant" else []:
        if learner in models.learners(output):
            decided = models.decide(output, learner, inputs)
            distributions[output] = models.distribution(output, decided)
            parameters += decided.parameters
            seconds += decided.seconds
    return Candidate(
        name=baseline_name(learner, inputs),
        kind="baseline",
        recipe=None,
        distributions=distributions,
        score=folds.score(distributions),
        metrics=folds.metrics(distributions),
        fold_scores=folds.fold_scores(distributions),
        seconds=round(seconds or time.perf_counter() - begun, 3),
        parameters=parameters,
        size_mib=round(BYTES_PER_PARAMETER * parameters / 2**20, 3),
        latency_ms=None,
        folds=len(folds),
    )


def _constants(folds: Folds) -> Distributions:
    """The best constant answer of each fold's training rows, out of fold."""
    distributions = folds.reference.empty()
    for parts in folds.parts:
        own = Preparation(folds.recipe).targets_only()
        own.fit(folds.table, parts["train"].rows)
        rows = parts["test"].rows
        for output, task in own.tasks.items():
            constant = np.broadcast_to(task.baseline_prediction(), (len(rows), task.output_size))
            distributions[output][rows] = folds.reference.reorder_classes(output, constant, task)
    return distributions
