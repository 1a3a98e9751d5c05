"""Multi-label classification: cells as lists or text, gaps, loss, threshold."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch.nn import functional

from polymodal.core.errors import DataError, RecipeError
from polymodal.data.table.block import RowBlock
from polymodal.data.table.cell_errors import CellErrors
from polymodal.recipe.data import LimitOptions
from polymodal.tasks.multilabel_classification import MultilabelClassificationTask

torch.set_num_threads(1)

CELLS = [["red", "big"], ["red"], [], None, ["small", "red", "red"], ["big"]]


def block(cells: Any, faults: CellErrors | None = None) -> RowBlock:
    return RowBlock({"y": cells}, np.arange(len(cells)), None, "t", faults or CellErrors(), LimitOptions())


def fitted(cells: Any, **options: Any) -> MultilabelClassificationTask:
    task = MultilabelClassificationTask(MultilabelClassificationTask.Options(**options), columns=["y"])
    task.fit(iter([block(cells)]))
    return task


@pytest.mark.parametrize(
    ("cells", "options"),
    [
        (CELLS, {}),
        (pa.array(CELLS), {}),
        (["red|big", " red ", "", None, "small| red|red", "big"], {}),
        (["red;big", "red", "", None, "small;red", "big"], {"separator": ";"}),
    ],
)
def test_lists_and_text_are_read_alike(cells: Any, options: dict[str, Any]) -> None:
    task = fitted(cells, **options)
    value, present = task.prepare(block(cells))
    assert task.classes == ["big", "red", "small"]
    assert present.tolist() == [True, True, True, False, True, True]
    assert value.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0], [0, 0, 0], [0, 1, 1], [1, 0, 0]]
    np.testing.assert_allclose(task.baseline_prediction(), [0.4, 0.6, 0.2])
    assert task.notes == ["label 'small' has 1 training row"]
    assert task.predict(value.astype(float)) == [["big", "red"], ["red"], [], [], ["red", "small"], ["big"]]


def test_labels_keep_their_type_after_saving() -> None:
    task = fitted([[1, 5], [5], [10]])
    again = MultilabelClassificationTask(MultilabelClassificationTask.Options(), columns=["y"])
    again.load(json.loads(json.dumps(task.save())))
    assert again.predict(np.array([[1.0, 0.0, 1.0]])) == [[1, 10]]
    assert (again.baseline_loss(), again.notes) == (task.baseline_loss(), task.notes)


def test_unseen_labels_and_unreadable_cells_are_cell_errors_and_missing() -> None:
    task, faults = fitted(CELLS), CellErrors()
    value, present = task.prepare(block([["red"], ["red", "blue"], 7, ["red", None], None], faults))
    assert present.tolist() == [True, False, False, False, False]
    assert not value[1:].any()
    assert [fault.row for fault in faults.errors] == [1, 2, 3]
    assert "'blue'" in faults.errors[0].reason


def test_nothing_to_learn_is_an_error() -> None:
    for cells in ([[], None], [["a"], ["a"]], [3, 4]):
        with pytest.raises(DataError, match="column 'y'"):
            fitted(cells)
    with pytest.raises(RecipeError, match="exactly one column"):
        MultilabelClassificationTask(MultilabelClassificationTask.Options(), columns=["y", "z"])


@pytest.mark.parametrize("weights", ["none", "balanced"])
def test_loss_equals_torch_and_the_baseline_is_the_best_constant(weights: str) -> None:
    cells = [["always", "a"]] * 3 + [["always", "b"]] * 16 + [["always"]]
    task = fitted(cells, pos_weight=weights)
    assert "label 'always' occurs in every training row" in task.notes
    target = torch.from_numpy(task.prepare(block(cells))[0])
    positive = torch.tensor([17 / 3, 1.0, 4 / 16]) if weights == "balanced" else torch.ones(3)
    values = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    expected = functional.binary_cross_entropy_with_logits(
        values, target.float(), pos_weight=positive, reduction="none"
    ).mean(1)
    torch.testing.assert_close(task.loss(values, target), expected)
    assert task.loss(values.bfloat16(), target).dtype == torch.float32

    grid = torch.linspace(-20, 20, 4001)
    losses = torch.stack([task.loss(logit.expand(20, 3), target).mean() for logit in grid[::100]])
    per_label = [
        min(
            float(
                functional.binary_cross_entropy_with_logits(
                    logit.expand(20), target[:, c].float(), pos_weight=positive[c]
                )
            )
            for logit in grid
        )
        for c in range(3)
    ]
    assert task.baseline_loss() <= float(losses.min()) + 1e-6
    assert task.baseline_loss() == pytest.approx(np.mean(per_label), abs=1e-4)


def test_the_threshold_decides_predictions_and_f1() -> None:
    distribution, truth = np.array([[0.4, 0.9], [0.2, 0.1]]), np.array([[1, 1], [0, 0]])
    low, high = (fitted([["a"], ["b"]], threshold=at) for at in (0.3, 0.6))
    assert low.predict(distribution) == [["a", "b"], []]
    assert high.predict(distribution) == [["b"], []]
    score = {task: {m.name: m.score(distribution, truth, np.ones(2)) for m in task.metrics} for task in (low, high)}
    assert score[low]["f1_micro"] == pytest.approx(1)
    assert score[high]["f1_micro"] == pytest.approx(2 / 3)
    assert (score[high]["precision_micro"], score[high]["recall_micro"]) == (pytest.approx(1), pytest.approx(0.5))
    assert score[high]["subset_accuracy"] == pytest.approx(0.5)
    assert score[low]["average_precision"] == score[high]["average_precision"] == 1
