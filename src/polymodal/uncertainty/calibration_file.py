"""The calibration rows of a model in its directory, as safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from polymodal.checkpoint.model_directory import CALIBRATION
from polymodal.checkpoint.reading import parsing, read_tensors
from polymodal.checkpoint.tensor_files import write_tensors
from polymodal.tasks.base import Task
from polymodal.uncertainty.calibration_rows import CalibrationRows


def write_calibration(folder: Path, tasks: Mapping[str, Task], rows: Mapping[str, CalibrationRows]) -> None:
    """Write the calibration rows of the outputs, if there are any. An array is named by the number of its output."""
    arrays = {
        f"{number}/{name}": torch.from_numpy(np.ascontiguousarray(array))
        for number, output in enumerate(tasks)
        if output in rows
        for name, array in rows[output].arrays().items()
    }
    if arrays:
        write_tensors(folder / CALIBRATION, arrays)


def read_calibration(folder: Path, tasks: Mapping[str, Task], inputs: int) -> dict[str, CalibrationRows]:
    """The calibration rows by output; empty if the model has none.

    inputs: the number of inputs of the model

    Raises:
        ArtifactError: the file is malformed.
    """
    path = folder / CALIBRATION
    if not path.is_file():
        return {}
    found = {name: tensor.numpy() for name, tensor in read_tensors(path).items()}
    rows = {}
    with parsing(path):
        for number, (output, task) in enumerate(tasks.items()):
            own = {name.partition("/")[2]: one for name, one in found.items() if name.startswith(f"{number}/")}
            if own:
                rows[output] = CalibrationRows.from_arrays(task, inputs, own)
    return rows
