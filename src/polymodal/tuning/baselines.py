"""Baselines of every search: constant predictions, and linear models and boosted trees on frozen features."""

from __future__ import annotations

import time

import numpy as np

from polymodal.core.progress import Progress
from polymodal.preparation.preparation import Preparation
from polymodal.tuning.candidate import Candidate, Distributions
from polymodal.tuning.features import WORDS_PREFIX
from polymodal.tuning.folds import Folds
from polymodal.tuning.frozen_baselines import BASELINE_MODELS, BaselineKind, FrozenFeatureBaselines

#: Size of one fitted parameter.
BYTES_PER_PARAMETER = 4


def run_baselines(
    folds: Folds,
    *,
    progress: Progress,
    models: FrozenFeatureBaselines | None = None,
    deadline: float | None = None,
) -> list[Candidate]:
    """The constant prediction, and each baseline model (`linear`, `ridge`, `trees`) on each single input and on all
    inputs.

    In each fold, a baseline is trained on the training and validation rows together (it is tuned on inner folds, with
    the grouping of the outer folds) and predicts the test rows. Rows without the target are not used. Outputs with
    several predictions per row (`event_detection`) have only the constant baseline.

    models: shared with `audit_inputs`, so that predictions are computed once; its `notes` list what was skipped
    deadline: the time (`time.time()`) after which no further baseline is fitted, which sets `models.is_short_of_time`

    A text input with a pretrained encoder also has baselines on TF-IDF features of its words (`words of NAME`).

    Returns baselines named `constant`, `linear: text`, `trees: text + image` ... with `recipe` None. `seconds` is the
    time of training and prediction, without the extraction of features.
    """
    models = models or FrozenFeatureBaselines(folds, progress=progress)
    subsets: list[tuple[str, ...]] = [(name,) for name in (*models.inputs, *models.features.words)]
    if len(models.inputs) > 1:
        subsets.append(tuple(models.inputs))
    jobs: list[tuple[BaselineKind, tuple[str, ...]]] = [("constant", ())]
    for subset in subsets:
        used = [one for one in BASELINE_MODELS if any(one in models.models_for(output) for output in models.outputs)]
        jobs += [(kind, subset) for kind in used]
    constants = _constants(folds)
    candidates: list[Candidate] = []
    with progress.task("baselines", len(jobs)) as advance:
        for kind, subset in jobs:
            if candidates and deadline is not None and time.time() > deadline:
                models.is_short_of_time = True
                break
            candidates.append(_baseline(models, kind, subset, constants))
            advance(1)
    return candidates


def baseline_name(kind: BaselineKind, inputs: tuple[str, ...]) -> str:
    """The name of a baseline, such as `linear: text + image`."""
    return f"{kind}: {' + '.join(inputs)}" if inputs else kind


def baseline_inputs(name: str) -> list[str]:
    """The inputs of the baseline called `name`."""
    _, _, read = name.partition(": ")
    return [one.removeprefix(WORDS_PREFIX) for one in read.split(" + ")] if read else []


def _baseline(
    models: FrozenFeatureBaselines, kind: BaselineKind, inputs: tuple[str, ...], constants: Distributions
) -> Candidate:
    folds, start = models.folds, time.perf_counter()
    distributions, num_parameters = dict(constants), sum(task.output_size for task in folds.tasks.values())
    seconds = 0.0
    for output in models.outputs if kind != "constant" else []:
        if kind in models.models_for(output):
            predicted = models.predict(output, kind, inputs)
            distributions[output] = models.distribution(output, predicted)
            num_parameters += predicted.num_parameters
            seconds += predicted.seconds
    return Candidate(
        name=baseline_name(kind, inputs),
        kind="baseline",
        recipe=None,
        distributions=distributions,
        score=folds.score(distributions),
        metrics=folds.metrics(distributions),
        fold_scores=folds.fold_scores(distributions),
        seconds=round(seconds or time.perf_counter() - start, 3),
        num_parameters=num_parameters,
        size_mib=round(BYTES_PER_PARAMETER * num_parameters / 2**20, 3),
        latency_ms=None,
        num_folds=len(folds),
    )


def _constants(folds: Folds) -> Distributions:
    """Out-of-fold constant predictions, fitted on the training rows of each fold."""
    distributions = folds.reference.empty()
    for split in folds.splits:
        fold_preparation = Preparation(folds.recipe).targets_only()
        fold_preparation.fit(folds.table, split["train"].rows)
        rows = split["test"].rows
        for output, task in fold_preparation.tasks.items():
            constant = np.broadcast_to(task.baseline_prediction(), (len(rows), task.output_size))
            distributions[output][rows] = folds.reference.reorder_classes(output, constant, task)
    return distributions
