"""Whether a model of a single input is better than the model of all inputs, and which of the two is returned."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from polymodal.core.formatting import format_score
from polymodal.core.progress import Progress
from polymodal.estimators.base import EstimatorTarget
from polymodal.experiments.experiment import Experiment
from polymodal.experiments.fit_calibration import MIN_ROWS, fit_scale, lower_bound, row_losses
from polymodal.experiments.member_rows import MemberRows
from polymodal.experiments.plan import Plan
from polymodal.experiments.score import ScoredModel, score_model
from polymodal.inference.ensemble_predictor import average_networks
from polymodal.inference.predictions import Predictions
from polymodal.model.model import Model

#: Confidence that a single input is better, divided among the inputs that are compared.
CONFIDENCE = 0.95


@dataclass(frozen=True)
class SingleInput:
    """An input whose own model has a lower loss on the validation rows than the model of all inputs.

    loss, all_inputs_loss: the mean losses of the first output; rows: the validation rows that were compared
    """

    name: str
    loss: float
    all_inputs_loss: float
    rows: int

    @property
    def sentence(self) -> str:
        """The comparison in words."""
        losses = f"{format_score(self.loss)} against {format_score(self.all_inputs_loss)}"
        return (
            f"input {self.name!r} alone validates better than all inputs together: its loss is {losses} on "
            f"{self.rows:,} validation rows, by a paired test with {CONFIDENCE:.0%} confidence"
        )


def better_single_input(experiment: Experiment, scored: ScoredModel) -> SingleInput | None:
    """The input with the lowest validation loss of its own, if it is better than all inputs together beyond doubt.

    For each output, predictions are calibrated, and the losses of the same rows are compared by a paired test. The
    confidence is corrected for the number of inputs (Bonferroni). With several outputs, the input must be better for
    each. Fewer than `MIN_ROWS` rows decide nothing, and generated texts are not compared.
    """
    tasks = experiment.preparation.tasks
    if not scored.unimodal or experiment.recipe.objectives or any(task.is_generative for task in tasks.values()):
        return None
    rows = MemberRows((experiment.splits["validation"],), ())
    together, found = scored.splits["validation"].predictions, dict[str, SingleInput]()
    for name, one in scored.unimodal.items():
        compared: list[SingleInput] = []
        for output, task in tasks.items():
            positions, target = rows.target(output, task)
            if len(positions) < MIN_ROWS:
                continue
            losses = [
                _calibrated_losses(_raw(predictions, experiment, output)[positions], target)
                for predictions in (together, one.predictions)
            ]
            means = [float(np.average(each, weights=target.weight)) for each in losses]
            confidence = 1 - (1 - CONFIDENCE) / len(scored.unimodal)
            if lower_bound(losses[0] - losses[1], target.weight, confidence) > 0:
                compared.append(SingleInput(name, means[1], means[0], len(positions)))
        if compared and len(compared) == len(tasks):
            found[name] = compared[0]
    return min(found.values(), key=lambda one: one.loss) if found else None


def with_better_input(
    plan: Plan, experiment: Experiment, model: Model, scored: ScoredModel, progress: Progress
) -> tuple[Plan, Experiment, Model, ScoredModel]:
    """The run as it is, or that of a single input that validates better than all inputs together.

    The model of all inputs stays, with a notice, if the recipe names its inputs, or continues or teaches a model.
    """
    better = better_single_input(experiment, scored)
    if better is None:
        return plan, experiment, model, scored
    if reason := _needs_all(plan):
        notice = f"{better.sentence}. All inputs are kept, because {reason}: leave out the others to get that model"
        model.run = replace(model.run, notices=(*model.run.notices, notice))
        return plan, experiment, model, scored
    alone = scored.unimodal[better.name]
    reason = f"the model of {better.name!r} alone validates better"
    kept = set(experiment.recipe.inputs[better.name].columns)
    roles = [
        replace(one, role="ignored", reason=reason) if one.role == "input" and one.column not in kept else one
        for one in plan.roles
    ]
    run = alone.model.run
    notice = f"{better.sentence}. The model of {better.name!r} is returned, and the other inputs are not read"
    alone.model.run = replace(run, single_input=better.name, notices=(*run.notices, notice))
    scores = score_model(alone.experiment, alone.model, progress=progress)
    return replace(plan, roles=roles), alone.experiment, alone.model, scores


def _needs_all(plan: Plan) -> str:
    """Why a run cannot return a model of a single input; empty if it can."""
    if plan.names_inputs:
        return "the recipe names them"
    training = plan.recipe.training
    if plan.recipe.privileged or training.distillation.teacher is not None:
        return "the model learns from a teacher"
    if training.pseudo_labels.rounds:
        return "the model learns from pseudo-labels"
    return "training.init_from continues a model" if training.init_from is not None else ""


def _raw(predictions: dict[str, Predictions], experiment: Experiment, output: str) -> np.ndarray:
    return average_networks([predictions], experiment.preparation)[output]


def _calibrated_losses(values: np.ndarray, target: EstimatorTarget) -> np.ndarray:
    return row_losses(fit_scale(values, target) * values, target)
