"""Average precision of boxes equals that of pycocotools, and weights are copies of rows."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pytest

from polymodal.metrics.boxes import AREAS, BoxList, match_boxes, mean_average_precision

ROWS, LABELS = 12, 3


def random_boxes(draw: np.random.Generator, count: int, *, ties: bool, crowds: bool = False) -> BoxList:
    """Boxes of all sizes near few places, so that many overlap."""
    corner = draw.choice([0.0, 40.0, 150.0], (count, 2)) + draw.uniform(0, 12, (count, 2))
    side = draw.choice([15.0, 60.0, 140.0], count)[:, None] + draw.uniform(0, 8, (count, 2))
    score = draw.integers(1, 5, count) / 5 if ties else draw.permutation(count) / count
    row = np.sort(draw.integers(0, ROWS, count))
    crowd = draw.random(count) < 0.2 if crowds else np.zeros(count, bool)
    return BoxList(row, draw.integers(0, LABELS, count), np.concatenate([corner, side], axis=1), score, crowd)


def reference(truth: BoxList, predicted: BoxList) -> np.ndarray:
    """The first and the last three of the numbers of COCOeval that matter: map, map_50, and map of each size."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def annotations(boxes: BoxList) -> list[dict[str, Any]]:
        return [
            {
                "id": number + 1,
                "image_id": int(boxes.row[number]),
                "category_id": int(boxes.label[number]),
                "bbox": boxes.box[number].tolist(),
                "area": float(boxes.box[number, 2] * boxes.box[number, 3]),
                "iscrowd": int(boxes.crowd[number]),
                "score": float(boxes.score[number]),
            }
            for number in range(len(boxes.row))
        ]

    with contextlib.redirect_stdout(io.StringIO()):
        images, categories = [{"id": row} for row in range(ROWS)], [{"id": label} for label in range(LABELS)]
        true = COCO()
        true.dataset = {"images": images, "categories": categories, "annotations": annotations(truth)}
        true.createIndex()
        evaluation = COCOeval(true, true.loadRes(annotations(predicted)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return np.array([evaluation.stats[index] for index in (0, 1, 3, 4, 5)])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ties", [False, True])
def test_scores_equal_those_of_pycocotools_with_crowds_and_ties(seed: int, ties: bool) -> None:
    draw = np.random.default_rng(seed)
    truth = random_boxes(draw, 60, ties=False, crowds=True)
    predicted = random_boxes(draw, 240, ties=ties)
    by_area = {area: match_boxes(truth, predicted, ROWS, LABELS, area) for area in AREAS}
    every = np.ones(ROWS)
    found = [mean_average_precision(by_area["all"], every), mean_average_precision(by_area["all"], every, 0.5)]
    found += [mean_average_precision(by_area[area], every) for area in ("small", "medium", "large")]
    np.testing.assert_allclose(found, reference(truth, predicted), atol=1e-12)


def test_a_weight_is_a_number_of_copies_of_a_row() -> None:
    draw = np.random.default_rng(5)
    truth, predicted = random_boxes(draw, 60, ties=False), random_boxes(draw, 120, ties=False)
    weight = draw.integers(0, 3, ROWS)
    copies = np.repeat(np.arange(ROWS), weight)

    def copied(boxes: BoxList) -> BoxList:
        kept = [np.flatnonzero(boxes.row == row) for row in copies]
        index = np.concatenate(kept)
        row = np.repeat(np.arange(len(copies)), [len(one) for one in kept])
        return BoxList(row, boxes.label[index], boxes.box[index], boxes.score[index], boxes.crowd[index])

    weighted = match_boxes(truth, predicted, ROWS, LABELS)
    whole = match_boxes(copied(truth), copied(predicted), len(copies), LABELS)
    for overlap in (None, 0.5):
        one = mean_average_precision(weighted, weight.astype(float), overlap)
        assert one == pytest.approx(mean_average_precision(whole, np.ones(len(copies)), overlap), abs=1e-9)


def test_without_a_true_box_there_is_no_score() -> None:
    predicted = random_boxes(np.random.default_rng(0), 10, ties=False)
    nothing = BoxList(
        *(one[:0] for one in (predicted.row, predicted.label, predicted.box, predicted.score)), predicted.crowd[:0]
    )
    assert np.isnan(mean_average_precision(match_boxes(nothing, predicted, ROWS, LABELS), np.ones(ROWS)))
    truth = random_boxes(np.random.default_rng(1), 10, ties=False)
    assert mean_average_precision(match_boxes(truth, nothing, ROWS, LABELS), np.ones(ROWS)) == 0
    assert mean_average_precision(match_boxes(truth, truth, ROWS, LABELS), np.ones(ROWS)) == pytest.approx(1)
