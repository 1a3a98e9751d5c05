"""Lessons of a teacher: what a model with more inputs decided for the training rows, as a second target."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from polymodal.core.types import Space
from polymodal.inference.predictions import Predictions
from polymodal.recipe.training import DistillationOptions


@dataclass(frozen=True)
class TeacherTargets:
    """A teacher's decisions for the training rows.

    values: `[training rows, k]` by output; place: `[table rows]`, where each row's lesson stands
    """

    values: dict[str, Tensor]
    row_index: Tensor
    options: DistillationOptions

    @classmethod
    def from_predictions(cls, decisions: dict[str, Predictions], rows: np.ndarray, options: DistillationOptions) -> TeacherTargets:
        """The lessons for `rows` of a table, of which the teacher made `decisions` in that order."""
        place = torch.full((int(rows.max(initial=-1)) + 1,), -1, dtype=torch.int64)
        place[torch.from_numpy(rows)] = torch.arange(len(rows))
        return cls({name: one.values.clone() for name, one in decisions.items()}, place, options)

    def loss(self, output: str, space: Space, values: Tensor, rows: Tensor) -> Tensor:
        """How far the student's `values [batch, k]` are from the teacher's for `rows`, `[batch]`.

        categorical: T^2 KL(softmax(t / T) || softmax(s / T)) ; binary: the same for each label's two outcomes, mean
        over labels ; real: mean (t - s)^2. T is `temperature` (Hinton, Vinyals & Dean, "Distilling the Knowledge in a
        Neural Network", 2015; for inputs that only the teacher sees: Lopez-Paz et al., "Unifying Distillation and
        Privileged Information", 2016).
        """
        taught = self.values[output][self.row_index[rows.cpu()]].to(values.device)
        values, heat = values.float(), self.options.temperature
        if space == "real":
            return functional.mse_loss(values, taught, reduction="none").mean(-1)
        if space == "categorical":
            own, goal = (values / heat).log_softmax(-1), (taught / heat).log_softmax(-1)
            return heat**2 * functional.kl_div(own, goal, reduction="none", log_target=True).sum(-1)
        goal = (taught / heat).sigmoid()
        cross = functional.binary_cross_entropy_with_logits(values / heat, goal, reduction="none")
        least = functional.binary_cross_entropy(goal, goal, reduction="none")
        return heat**2 * (cross - least).mean(-1)
