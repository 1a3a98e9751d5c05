"""Knowledge distillation: the predictions of a teacher for the training rows as a second target."""

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
    """A teacher's predictions for the training rows.

    values: `[training rows, k]` by output
    row_index: `[table rows]`, the position of each table row in `values`; -1 for rows without a prediction
    """

    values: dict[str, Tensor]
    row_index: Tensor
    options: DistillationOptions

    @classmethod
    def from_predictions(
        cls, predictions: dict[str, Predictions], rows: np.ndarray, options: DistillationOptions
    ) -> TeacherTargets:
        """The targets for `rows` of a table, from the teacher's predictions in that order."""
        place = torch.full((int(rows.max(initial=-1)) + 1,), -1, dtype=torch.int64)
        place[torch.from_numpy(rows)] = torch.arange(len(rows))
        return cls({name: one.values.clone() for name, one in predictions.items()}, place, options)

    def loss(self, output: str, space: Space, values: Tensor, rows: Tensor) -> Tensor:
        """The distance of the student's `values [batch, k]` from the teacher's values for `rows`, `[batch]`.

        categorical: T^2 KL(softmax(t / T) || softmax(s / T)) ; binary: the same for the two outcomes of each label,
            averaged over labels ; real: mean (t - s)^2

        T is `temperature` (Hinton, Vinyals & Dean, "Distilling the Knowledge in a Neural Network", 2015; for inputs
        that only the teacher has: Lopez-Paz et al., "Unifying Distillation and Privileged Information", 2016).
        """
        teacher = self.values[output][self.row_index[rows.cpu()]].to(values.device)
        values, heat = values.float(), self.options.temperature
        if space == "real":
            return functional.mse_loss(values, teacher, reduction="none").mean(-1)
        if space == "categorical":
            own, goal = (values / heat).log_softmax(-1), (teacher / heat).log_softmax(-1)
            return heat**2 * functional.kl_div(own, goal, reduction="none", log_target=True).sum(-1)
        goal = (teacher / heat).sigmoid()
        cross = functional.binary_cross_entropy_with_logits(values / heat, goal, reduction="none")
        least = functional.binary_cross_entropy(goal, goal, reduction="none")
        return heat**2 * (cross - least).mean(-1)
