"""Boxes of the cells of a grid over a picture: assignment of true boxes, loss, and decoding.

Boxes are fractions of the width and height of the picture. A cell predicts the center of its box as an offset from the
center of the cell, in cells, and the logarithms of width and height, in cells:

    x = (column + 1/2 + d_x) / columns,   width = exp(s_w) / columns      (and the same for rows)

Source: Ge et al., "YOLOX: Exceeding YOLO Series in 2021", 2021. The cells of a box are those near its center, as in
Tian et al., "FCOS: Fully Convolutional One-Stage Object Detection", 2019.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from polymodal.core.types import BoxGrid

#: A cell belongs to a box if its center is at most this many cells from the center of the box, in both directions.
RADIUS = 1.0
#: Limit of the logarithm of a side, in cells.
MAX_LOG = 6.0


class Assignment(NamedTuple):
    """The box of each cell: `found [batch, cells]` bool, `box [batch, cells]` the number of the box in its row."""

    found: Tensor
    box: Tensor


def assign(boxes: Tensor, valid: Tensor, grid: BoxGrid) -> Assignment:
    """Assign a box to each cell near its center: the smallest, if there are several.

    boxes: `[batch, n, 4]`, left, top, right, bottom as fractions of the picture
    valid: `[batch, n]` bool, False for padding

    The cell that contains the center always belongs to the box, unless a smaller box has the same cell. The other cells
    do if their own center lies within the box.
    """
    x, y = cell_centers(grid, boxes.device)
    center_x, center_y = (boxes[..., 0] + boxes[..., 2]) / 2, (boxes[..., 1] + boxes[..., 3]) / 2
    across = (x.view(1, -1, 1) - center_x.unsqueeze(1)).abs() * grid.columns
    down = (y.view(1, -1, 1) - center_y.unsqueeze(1)).abs() * grid.rows
    inside = (across <= (boxes[..., 2] - boxes[..., 0]).unsqueeze(1) * grid.columns / 2) & (
        down <= (boxes[..., 3] - boxes[..., 1]).unsqueeze(1) * grid.rows / 2
    )
    column = (center_x * grid.columns).floor().clamp(0, grid.columns - 1)
    row = (center_y * grid.rows).floor().clamp(0, grid.rows - 1)
    own = (row * grid.columns + column).long().unsqueeze(1) == torch.arange(len(x), device=x.device).view(1, -1, 1)
    near = own | (inside & (across <= RADIUS) & (down <= RADIUS))
    area = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    cost = torch.where(near & valid.unsqueeze(1), area.unsqueeze(1), torch.inf)
    smallest, index = cost.min(2)
    return Assignment(smallest.isfinite(), index)


def cell_centers(grid: BoxGrid, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """x and y of the center of each cell, `[cells]`, as fractions of the picture."""
    cell = torch.arange(grid.rows * grid.columns, device=device)
    return (cell % grid.columns + 0.5) / grid.columns, (cell // grid.columns + 0.5) / grid.rows


def corners(numbers: Tensor, grid: BoxGrid) -> Tensor:
    """Left, top, right, bottom `[..., cells, 4]` as fractions of the picture, from the four numbers of each cell."""
    x, y = cell_centers(grid, numbers.device)
    center_x, center_y = x + numbers[..., 0] / grid.columns, y + numbers[..., 1] / grid.rows
    width = numbers[..., 2].clamp(-MAX_LOG, MAX_LOG).exp() / grid.columns
    height = numbers[..., 3].clamp(-MAX_LOG, MAX_LOG).exp() / grid.rows
    return torch.stack(
        [center_x - width / 2, center_y - height / 2, center_x + width / 2, center_y + height / 2], dim=-1
    )


def generalized_iou(a: Tensor, b: Tensor) -> Tensor:
    """Generalized intersection over union of boxes `[..., 4]`, from -1 to 1:

        GIoU = I / U - (C - U) / C,   C the area of the smallest box around both

    Source: Rezatofighi et al., "Generalized Intersection over Union", 2019.
    """
    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    both = (high - low).clamp_min(0).prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - both
    around = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).prod(-1)
    return both / union.clamp_min(1e-9) - (around - union) / around.clamp_min(1e-9)


def row_losses(values: Tensor, boxes: Tensor, labels: Tensor, grid: BoxGrid) -> Tensor:
    """Loss of each row, `[batch]`: binary cross-entropy of all cells and labels, plus 1 - GIoU of the cells of boxes.

    values: `[batch, cells * (labels + 4)]`; boxes: `[batch, n, 4]`; labels: `[batch, n]`, -1 for padding
    """
    cells = values.reshape(len(values), grid.rows * grid.columns, grid.labels + 4).float()
    near, index = assign(boxes, labels >= 0, grid)
    own_label = labels.gather(1, index).unsqueeze(-1)
    truth = (own_label == torch.arange(grid.labels, device=values.device)) & near.unsqueeze(-1)
    logits = cells[..., : grid.labels]
    right = functional.binary_cross_entropy_with_logits(logits, truth.to(logits.dtype), reduction="none").sum((1, 2))
    own_box = boxes.gather(1, index.unsqueeze(-1).expand(-1, -1, 4))
    overlap = generalized_iou(corners(cells[..., grid.labels :], grid), own_box)
    return right + torch.where(near, 1 - overlap, 0.0).sum(1)


class Detections(NamedTuple):
    """Boxes of many rows, `[n]` each: row, label, score, and left, top, right, bottom `[n, 4]`."""

    row: np.ndarray
    label: np.ndarray
    score: np.ndarray
    box: np.ndarray


def detect(probability: np.ndarray, box: np.ndarray, *, min_score: float, max_overlap: float, most: int) -> Detections:
    """The boxes of cells with at least `min_score`, after non-maximum suppression within each row and label.

    probability: `[rows, cells, labels]`; box: `[rows, cells, 4]`, left, top, right, bottom
    max_overlap: a box is dropped if its intersection over union with a better one is higher
    most: maximum number of boxes of a row; the best are kept

    The boxes of a row are ordered by score, the best first; equal scores by cell.
    """
    row, cell, label = np.nonzero(probability >= min_score)
    score = probability[row, cell, label]
    order = np.lexsort((label, cell, -score, row))
    row, cell, label, score = row[order], cell[order], label[order], score[order]
    found = box[row, cell]
    kept = np.zeros(len(row), bool)
    for one in np.unique(row):
        here = np.arange(*np.searchsorted(row, [one, one + 1]))
        kept[here[suppress(found[here], label[here], max_overlap)][:most]] = True
    return Detections(row[kept], label[kept], score[kept], found[kept])


def suppress(box: np.ndarray, label: np.ndarray, max_overlap: float) -> np.ndarray:
    """Positions of the boxes that non-maximum suppression keeps, ascending; `box [n, 4]` has the best first.

    Example:
        >>> boxes = np.array([[0, 0, 4, 4], [0, 0, 4, 5], [0, 0, 4, 5], [6, 6, 8, 8]])
        >>> suppress(boxes, np.array([0, 0, 1, 0]), 0.5).tolist()
        [0, 2, 3]
    """
    area = np.prod(box[:, 2:] - box[:, :2], axis=1)
    alive = np.ones(len(box), bool)
    for one in range(len(box)):
        if not alive[one]:
            continue
        rest = np.flatnonzero(alive[one + 1 :] & (label[one + 1 :] == label[one])) + one + 1
        sides = np.minimum(box[one, 2:], box[rest, 2:]) - np.maximum(box[one, :2], box[rest, :2])
        both = np.prod(np.maximum(sides, 0), axis=1)
        union = area[one] + area[rest] - both
        alive[rest[both > max_overlap * np.maximum(union, math.ulp(0))]] = False
    return np.flatnonzero(alive)
