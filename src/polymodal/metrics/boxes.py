"""Average precision of predicted boxes, as COCO defines it, with weights of the rows.

pycocotools matches the predicted to the true boxes of each row, once. A score is then a function of the weights of the
rows, so that a bootstrap does not match again. With equal weights it equals `COCOeval`.

Source: Lin et al., "Microsoft COCO: Common Objects in Context", 2014; `pycocotools.cocoeval`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from polymodal.core.errors import MissingExtraError
from polymodal.metrics.base import UNIT, Metric

#: The thresholds of the intersection over union, and the areas in pixels, of COCO.
OVERLAPS = np.linspace(0.5, 0.95, 10)
AREAS = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
#: Predicted boxes of a row that count, and the recalls at which precision is read.
MAX_BOXES, RECALLS = 100, np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True)
class BoxList:
    """Boxes of many rows, `[n]` each, in pixels: `box [n, 4]` is left, top, width, height.

    score: of predicted boxes; crowd: bool, of true boxes that cover groups of objects
    """

    row: np.ndarray
    label: np.ndarray
    box: np.ndarray
    score: np.ndarray
    crowd: np.ndarray


@dataclass(frozen=True)
class LabelMatches:
    """The predicted boxes of one label and of one range of areas, the best first.

    row: `[n]`; right, wrong: `[thresholds, n]` bool, neither for boxes that do not count
    support: `[rows]`, number of true boxes that count
    """

    row: np.ndarray
    right: np.ndarray
    wrong: np.ndarray
    support: np.ndarray


def cocoeval() -> Any:
    """The module `pycocotools.cocoeval`.

    Raises:
        MissingExtraError: pycocotools is not installed.
    """
    try:
        from pycocotools import cocoeval as module
    except ImportError as error:
        raise MissingExtraError("pycocotools", "boxes", "the task object_detection") from error
    return module


def match_boxes(truth: BoxList, predicted: BoxList, rows: int, labels: int, area: str = "all") -> list[LabelMatches]:
    """Match predicted to true boxes by `COCOeval.evaluateImg`, for each label.

    area: one of `AREAS`, by the area of the true boxes
    """
    evaluation = cocoeval().COCOeval(iouType="bbox")
    chosen = evaluation.params
    chosen.imgIds, chosen.catIds, chosen.useCats = list(range(rows)), list(range(labels)), 1
    chosen.iouThrs, chosen.maxDets = OVERLAPS, [MAX_BOXES]
    evaluation._gts, evaluation._dts = _annotations(truth), _annotations(predicted)
    pairs = sorted({*evaluation._gts, *evaluation._dts})
    evaluation.ious = {pair: evaluation.computeIoU(*pair) for pair in pairs}
    found: list[list[tuple[int, dict[str, Any]]]] = [[] for _ in range(labels)]
    for row, label in pairs:
        found[label].append((row, evaluation.evaluateImg(row, label, list(AREAS[area]), MAX_BOXES)))
    return [_label_matches(one, rows) for one in found]


def _annotations(boxes: BoxList) -> Any:
    """Annotations as COCOeval keeps them, by row and label."""
    found = defaultdict(list)
    columns = zip(boxes.row.tolist(), boxes.label.tolist(), boxes.box.tolist(), boxes.score, boxes.crowd, strict=True)
    for number, (row, label, box, score, crowd) in enumerate(columns, start=1):
        annotation = {"id": number, "bbox": box, "area": box[2] * box[3], "score": float(score)}
        found[row, label].append(annotation | {"iscrowd": int(crowd), "ignore": int(crowd)})
    return found


def _label_matches(found: list[tuple[int, dict[str, Any]]], rows: int) -> LabelMatches:
    support = np.zeros(rows)
    for row, image in found:
        support[row] = np.count_nonzero(np.asarray(image["gtIgnore"]) == 0)
    score = np.concatenate([np.zeros(0), *(image["dtScores"] for _, image in found)])
    rows_of = np.concatenate([np.zeros(0), *(np.full(len(image["dtScores"]), row) for row, image in found)])
    empty = np.zeros((len(OVERLAPS), 0))
    matched, ignored = (
        np.concatenate([empty, *(image[name] for _, image in found)], axis=1) != 0 for name in ("dtMatches", "dtIgnore")
    )
    order = np.argsort(-score, kind="mergesort")  # as COCOeval.accumulate: equal scores keep the order of the rows
    matched, ignored = matched[:, order], ignored[:, order]
    return LabelMatches(rows_of[order].astype(np.int64), matched & ~ignored, ~matched & ~ignored, support)


def average_precision(matches: LabelMatches, weight: np.ndarray) -> np.ndarray:
    """Average precision at each threshold, `[thresholds]`; NaN without a true box in a row of positive weight.

    weight: `[rows]`
    """
    support = float(weight @ matches.support)
    if support <= 0:
        return np.full(len(OVERLAPS), np.nan)
    own = weight[matches.row]
    right, wrong = np.cumsum(matches.right * own, axis=1), np.cumsum(matches.wrong * own, axis=1)
    found = np.zeros(len(OVERLAPS))
    for threshold, (hits, misses) in enumerate(zip(right, wrong, strict=True)):
        if not len(hits):
            continue
        precision = hits / (hits + misses + np.spacing(1))
        precision = np.maximum.accumulate(precision[::-1])[::-1]
        at = np.searchsorted(hits / support, RECALLS, side="left")
        found[threshold] = np.where(at < len(hits), precision[np.minimum(at, len(hits) - 1)], 0.0).mean()
    return found


def mean_average_precision(matches: list[LabelMatches], weight: np.ndarray, overlap: float | None = None) -> float:
    """Mean of the average precision over the labels that occur, and over the thresholds or at one of them.

    overlap: one of `OVERLAPS`; None: the mean over all

    NaN if no label occurs.
    """
    by_label = np.array([average_precision(one, weight) for one in matches]).reshape(-1, len(OVERLAPS))
    known = by_label[~np.isnan(by_label[:, 0])]
    if not len(known):
        return float("nan")
    at = slice(None) if overlap is None else [int(np.argmin(np.abs(OVERLAPS - overlap)))]
    return float(known[:, at].mean())


def class_scores(matches: list[LabelMatches], weight: np.ndarray) -> dict[str, list[float]]:
    """Precision, recall and F1 of each label at an overlap of 0.5, and its number of true boxes; NaN if undefined."""
    found: dict[str, list[float]] = {name: [] for name in ("precision", "recall", "f1", "support")}
    for one in matches:
        right, wrong = (float(weight[one.row] @ hits[0]) for hits in (one.right, one.wrong))
        support = float(weight @ one.support)
        both = right + wrong + support
        found["precision"].append(right / (right + wrong) if right + wrong else float("nan"))
        found["recall"].append(right / support if support else float("nan"))
        found["f1"].append(2 * right / both if both else float("nan"))
        found["support"].append(support)
    return found


def row_counts(matches: list[LabelMatches], rows: int) -> np.ndarray:
    """Boxes of each row: found at an overlap of 0.5, false, and true, `[rows, 3]`."""
    counts = np.zeros((rows, 3))
    for one in matches:
        np.add.at(counts[:, 0], one.row, one.right[0])
        np.add.at(counts[:, 1], one.row, one.wrong[0])
        counts[:, 2] += one.support
    return counts


def box_metric(
    name: str,
    match: Callable[[np.ndarray, np.ndarray], list[LabelMatches]],
    score: Callable[[list[LabelMatches], np.ndarray], float],
) -> Metric:
    """A metric of matched boxes: `match(distribution, truth)`, then `score(matches, weight)`."""

    def prepared(distribution: np.ndarray, truth: np.ndarray) -> Callable[[np.ndarray], float]:
        return partial(score, match(distribution, truth))

    def score_rows(distribution: np.ndarray, truth: np.ndarray, weight: np.ndarray) -> float:
        return score(match(distribution, truth), weight)

    return Metric(name, score_rows, True, prepared, UNIT)
