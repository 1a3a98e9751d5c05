"""The best constant prediction of boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from polymodal.core.types import BoxGrid
from polymodal.tasks.box_grid import assign, corners, generalized_iou

#: The smallest side of a box in cells before a logarithm.
MIN_CELLS = 1e-4


class BoxConstants(NamedTuple):
    """What a model without inputs predicts for the cells of a grid, from training rows.

    cells_per_row: mean number of cells with a box in a row, at least 1
    mean_cells: `[cells * labels]`, fraction of the rows in which a cell has a box of a label
    mean_box: logarithms of the median width and height, in cells
    box_loss: mean over rows of the sum of 1 - GIoU of this box
    """

    cells_per_row: float
    mean_cells: np.ndarray
    mean_box: tuple[float, float]
    box_loss: float


def fit_constants(rows: Sequence[np.ndarray], grid: BoxGrid) -> BoxConstants:
    """The constants of the true boxes of rows: `[n, 6]` each, left, top, right, bottom, label, and 1 for a crowd."""
    counts = torch.zeros(grid.rows * grid.columns, grid.labels)
    boxes, cells = [torch.zeros(0, 4)], [torch.zeros(0, dtype=torch.int64)]
    for row in rows:
        if not len(row):
            continue
        true = torch.from_numpy(row).unsqueeze(0)
        near, index = assign(true[..., :4], true[..., 5] == 0, grid)
        where = near[0].nonzero().flatten()
        own: Tensor = true[0, index[0, where]]
        counts.index_put_((where, own[:, 4].long()), torch.ones(len(where)), accumulate=True)
        boxes.append(own[:, :4])
        cells.append(where)
    box, cell = torch.cat(boxes), torch.cat(cells)
    mean_cells = (counts / len(rows)).double().numpy().ravel()
    if not len(box):
        return BoxConstants(1.0, mean_cells, (0.0, 0.0), 0.0)
    sides = (box[:, 2:] - box[:, :2]) * torch.tensor([grid.columns, grid.rows])
    width, height = sides.clamp_min(MIN_CELLS).log().median(0).values.tolist()
    constant = corners(torch.tensor([0.0, 0.0, width, height]).expand(grid.rows * grid.columns, 4), grid)
    loss = float((1 - generalized_iou(constant[cell], box)).sum() / len(rows))
    return BoxConstants(max(1.0, len(box) / len(rows)), mean_cells, (width, height), loss)
