"""The gain of each input, and the loss without it: models of all and of some inputs on the same rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.record import Record
from polymodal.core.paths import cache_folder
from polymodal.core.progress import Progress
from polymodal.data.partition import Split, groups_of
from polymodal.data.table.table import Table
from polymodal.evaluation.intervals import Resampling
from polymodal.evaluation.paired_bootstrap import paired_difference
from polymodal.experiments.experiment import Experiment, prepare_experiment
from polymodal.experiments.plan import complete_schedule
from polymodal.experiments.train import train_model
from polymodal.metrics.base import Metric
from polymodal.model.model import Model
from polymodal.recipe.recipe import Recipe

Inputs = tuple[str, ...]


@dataclass
class InputStudy:
    """Predicted distributions of one classification output over test rows, fold by fold.

    trained: by the inputs of the model; hidden: of the model of all inputs, by the input that was hidden
    """

    trained: dict[Inputs, list[np.ndarray]] = field(default_factory=dict)
    hidden: dict[str, list[np.ndarray]] = field(default_factory=dict)
    truth: list[np.ndarray] = field(default_factory=list)
    groups: list[np.ndarray] = field(default_factory=list)
    metric: Metric | None = None

    def accuracy(self, distributions: list[np.ndarray]) -> float:
        return float((np.concatenate(distributions).argmax(1) == np.concatenate(self.truth)).mean())

    def accuracy_of(self, fold: int, distributions: list[np.ndarray]) -> float:
        return float((distributions[fold].argmax(1) == self.truth[fold]).mean())

    def against(self, one: list[np.ndarray], other: list[np.ndarray]) -> str:
        """The difference of two accuracies with its paired bootstrap interval and p-value."""
        assert self.metric is not None
        truth = np.concatenate(self.truth)
        groups = np.concatenate(self.groups) if self.groups else None
        paired = paired_difference(
            self.metric,
            np.concatenate(one),
            np.concatenate(other),
            truth,
            np.ones(len(truth)),
            Resampling(groups=groups),
        )
        return f"{paired.value:+.3f} ({paired.low:+.3f} to {paired.high:+.3f}), p = {paired.p_value:.2g}"

    def add_to(self, record: Record, title: str = "") -> None:
        """Add every accuracy, and the loss without each input, to the record, under `title`."""
        prefix = f"{title}: " if title else ""
        whole = max(self.trained, key=len)
        for inputs, distributions in self.trained.items():
            record.values[prefix + " + ".join(inputs)] = [self.accuracy(distributions)]
        for name, distributions in self.hidden.items():
            record.values[f"{prefix}all, without {name} at prediction"] = [self.accuracy(distributions)]
        for inputs, distributions in self.trained.items():
            if inputs != whole:
                record.facts[f"{prefix}all against {' + '.join(inputs)}"] = self.against(
                    self.trained[whole], distributions
                )
        for name, distributions in self.hidden.items():
            rest = tuple(one for one in whole if one != name)
            if rest in self.trained:
                difference = self.against(distributions, self.trained[rest])
                record.facts[f"{prefix}all without {name} at prediction, against {' + '.join(rest)} trained"] = (
                    difference
                )


def study(recipe: Recipe, folds: Iterable[dict[str, Split[Table]]], subsets: list[Inputs]) -> InputStudy:
    """Train on all inputs and on each of `subsets`, fold by fold; every input is prepared once per fold."""
    result = InputStudy()
    for number, splits in enumerate(folds):
        complete = complete_schedule(recipe, len(splits["train"]))
        with TemporaryDirectory() as work_folder:
            progress = Progress(False)
            media = cache_folder() / "media"
            experiment = prepare_experiment(complete, splits, folder=Path(work_folder), cache=media, progress=progress)
            task = next(iter(experiment.preparation.tasks.values()))
            split = experiment.splits["test"]
            value, _ = next(iter(split.table.targets.values()))
            result.truth.append(task.truth(value[split.rows]))
            result.metric = next(metric for metric in task.metrics if metric.name == "accuracy")
            groups = groups_of(recipe, splits["test"].table)
            if groups is not None:
                result.groups.append(groups[split.rows])
            model = _train(experiment)
            all_inputs = tuple(recipe.inputs)
            result.trained.setdefault(all_inputs, []).append(_distribution(experiment, model))
            for name in all_inputs:
                result.hidden.setdefault(name, []).append(_distribution(experiment, model, frozenset({name})))
            for inputs in subsets:
                some = experiment.with_recipe(experiment.recipe.with_inputs(list(inputs)))
                result.trained.setdefault(inputs, []).append(_distribution(some, _train(some)))
        scores = [f"{'+'.join(inputs)} {result.accuracy_of(-1, each):.3f}" for inputs, each in result.trained.items()]
        scores += [f"without {name} {result.accuracy_of(-1, each):.3f}" for name, each in result.hidden.items()]
        print(f"fold {number + 1}: {', '.join(scores)}", flush=True)
    return result


def _train(experiment: Experiment) -> Model:
    return train_model(experiment, progress=Progress(False))


def _distribution(experiment: Experiment, model: Model, hidden_inputs: frozenset[str] = frozenset()) -> np.ndarray:
    split, task = experiment.splits["test"], next(iter(experiment.preparation.tasks.values()))
    predictions = model.predictor.predict(split, hidden_inputs=hidden_inputs)
    return task.distribution(next(iter(predictions.values())).values)
