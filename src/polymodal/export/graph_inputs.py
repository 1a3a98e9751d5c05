"""The tensors that a graph takes: their names, and which of their sizes may change."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from polymodal.core.errors import DataError
from polymodal.core.types import Batch
from polymodal.data.store.items import RaggedItems
from polymodal.export.exported_network import TensorName
from polymodal.preparation.preparation import Preparation, PreparedTable

#: The name of a size in the description of an export, for the number of rows.
ROWS = "rows"


def graph_inputs(preparation: Preparation, prepared: PreparedTable, rows: np.ndarray) -> dict[TensorName, Tensor]:
    """The tensors of some rows by name, each with an item for each row: `[rows, ...]`.

    A row without an input has the item of another row, and `present` False.

    Raises:
        DataError: no row has one of the inputs, so the form of its tensors is not known.
    """
    batch: Batch = preparation.batch(prepared, rows)
    found: dict[TensorName, Tensor] = {}
    for name, one in batch.inputs.items():
        if not bool(one.present.any()):
            columns = ", ".join(map(repr, preparation.modalities[name].columns))
            raise DataError(f"no row has the input {name!r} ({columns}); give rows in which every input occurs")
        for key, tensor in one.data.items():
            found[TensorName(name, key)] = tensor.index_select(0, one.index)
        found[TensorName(name, "present")] = one.present
    return found


def changing_sizes(prepared: PreparedTable, tensors: dict[TensorName, Tensor]) -> list[dict[int, Any]]:
    """For each tensor, the dimensions whose size may change, for `torch.export`: the rows, and the length of texts,
    sounds, clips and series."""
    found: list[dict[int, Any]] = []
    for name, tensor in tensors.items():
        sizes: dict[int, Any] = {0: torch.export.Dim.DYNAMIC}
        if tensor.ndim > 1 and isinstance(prepared.inputs[name.input].items, RaggedItems):
            sizes[1] = torch.export.Dim.AUTO
        found.append(sizes)
    return found
