"""The calibration rows of a trained model: rows that were predicted by networks and members not fitted on them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from polymodal.data.partition import Split
from polymodal.experiments.member_rows import MemberRows
from polymodal.inference.predictions import Predictions
from polymodal.preparation.preparation import PreparedTable
from polymodal.tasks.base import Task
from polymodal.uncertainty.calibration_rows import CalibrationRows, is_calibrated, known_targets, present_inputs


def member_calibration(
    tasks: Mapping[str, Task], rows: MemberRows, values: Mapping[str, np.ndarray]
) -> dict[str, CalibrationRows]:
    """The calibration rows of members, by output: all training and validation rows that are predicted out of fold.

    values: by output, raw out-of-fold predictions `[rows, k]`, NaN without one
    """
    present = np.concatenate([present_inputs(part) for part in rows.parts])
    found = {}
    for name, task in tasks.items():
        if is_calibrated(task):
            target = rows.known_target(name, task)
            some = np.flatnonzero(target.known)
            found[name] = CalibrationRows.of(task, values[name][some], target.values[some], present[some])
    return found


def network_calibration(
    tasks: Mapping[str, Task], split: Split[PreparedTable], predictions: Mapping[str, Predictions]
) -> dict[str, CalibrationRows]:
    """The calibration rows of a network, by output: the validation rows, which chose its epoch."""
    found, present = {}, present_inputs(split)
    for name, task in tasks.items():
        if is_calibrated(task):
            value, known = (array[split.rows] for array in split.table.targets[name])
            some = np.flatnonzero(known_targets(task, value, known))
            values = predictions[name].values.numpy()[some]
            found[name] = CalibrationRows.of(task, values, value[some], present[some])
    return found
