"""Cross-modal distillation: losses by hand, the teacher without gradient, and planted factors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from nn.objectives.pairs import INPUTS, chance_notices, pretrained
from nn.objectives.steps import bare, reads, step
from polymodal.core.errors import RecipeError
from polymodal.datasets.pairs import make_planted_pairs
from polymodal.model.model import Model
from polymodal.nn.objectives.cross_modal_distillation import CrossModalDistillation

TEACHER = torch.tensor([[3.0, 1.0], [1.0, -1.0]])  # standardize: (1, 1) and (-1, -1)


def distillation(**options: Any) -> CrossModalDistillation:
    found: CrossModalDistillation = bare(
        CrossModalDistillation(CrossModalDistillation.Options(**options), inputs=reads("a", "b"), width=2)
    )
    return found


def test_the_squared_error_by_hand() -> None:
    (term,) = distillation()(step({"a": TEACHER, "b": torch.tensor([[1.0, 1.0], [1.0, -1.0]])}))
    assert float(term.loss) == pytest.approx(4 / 4, abs=1e-4)
    (mean,) = distillation()(step({"a": TEACHER, "b": torch.zeros(2, 2)}))
    assert float(mean.loss) == pytest.approx(mean.baseline, abs=1e-4)


def test_the_cosine_distance_by_hand() -> None:
    (term,) = distillation(distance="cosine")(step({"a": TEACHER, "b": torch.tensor([[2.0, 2.0], [1.0, -1.0]])}))
    assert float(term.loss) == pytest.approx(1 - (1 + 0) / 2, abs=1e-4)
    assert term.baseline == pytest.approx(1, abs=1e-4)


def test_relational_distances_by_hand() -> None:
    """Standardized points on a line at -a, 0, a: distances a, a, 2a, in units of their mean 3/4, 3/4, 3/2."""
    line = torch.tensor([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]])
    same = torch.tensor([[0.0, 0.0], [5.0, 0.0], [10.0, 0.0]])
    (term,) = distillation(match="relations")(step({"a": line, "b": same}))
    assert float(term.loss) == pytest.approx(0, abs=1e-5)
    assert term.baseline == pytest.approx((0.25**2 / 2 * 2 + 0.5**2 / 2) / 3, abs=1e-5)
    assert len(distillation(match="both")(step({"a": line, "b": same}))) == 2


def test_the_teacher_gets_no_gradient() -> None:
    teacher, student = TEACHER.clone().requires_grad_(), TEACHER.clone().requires_grad_()
    (term,) = distillation()(step({"a": teacher, "b": student}))
    term.loss.backward()
    assert teacher.grad is None
    assert student.grad is not None


def test_the_teacher_and_its_students() -> None:
    objective = CrossModalDistillation(
        CrossModalDistillation.Options(teacher="b"), inputs=reads("a", "b", "c"), width=2
    )
    assert (objective.teacher, objective.students) == ("b", ["a", "c"])
    with pytest.raises(RecipeError, match="teacher"):
        CrossModalDistillation(CrossModalDistillation.Options(teacher="d"), inputs=reads("a", "b"), width=2)


TEXT_AND_NUMBERS = {"text": INPUTS["text"], "numbers": {**INPUTS["numbers"], "encoder": "linear"}}


def explained(model: Model) -> float:
    """R2 of a linear map from frozen text embeddings to the planted factor, on other rows."""
    train, valid = (make_planted_pairs(count, seed, ("text", "numbers")) for seed, count in enumerate((512, 128)))
    factors = [np.stack([part[f"factor{place}"] for place in range(3)], 1) for part in (train, valid)]
    vectors = [model.embed({"text": part["text"]}, input="text") for part in (train, valid)]
    return float(Ridge(1e-3).fit(vectors[0], factors[0]).score(vectors[1], factors[1]))


@pytest.mark.parametrize("options", [{}, {"match": "relations"}])
def test_the_student_learns_the_factor_of_the_teacher(options: dict[str, str]) -> None:
    distilled = {"name": "cross_modal_distillation", "teacher": "numbers", **options}
    model = pretrained(distilled, inputs=TEXT_AND_NUMBERS, training={"epochs": 16})
    control = pretrained(distilled, inputs=TEXT_AND_NUMBERS, shuffled=True, training={"epochs": 6})
    assert explained(model) > 0.9
    assert explained(model) > explained(control) + 0.1
    assert chance_notices(model) == []
    assert len(chance_notices(control)) == 1
