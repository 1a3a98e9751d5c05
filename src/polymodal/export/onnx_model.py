"""An exported model in Python: rows are prepared as in training, and ONNX Runtime computes the graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from polymodal.checkpoint.directory_kinds import ONNX_EXPORT, json_object
from polymodal.checkpoint.reading import parsing
from polymodal.core.argument_types import check_arguments
from polymodal.core.errors import ArtifactError, MissingExtraError
from polymodal.data.table.block import RowBlock
from polymodal.data.table.cell_errors import CellErrors, warn_cell_errors
from polymodal.inference.batching import PREDICTION_BATCH_SIZE
from polymodal.model.answer_forms import shaped_probabilities, shaped_values
from polymodal.model.rows import open_rows
from polymodal.preparation.preparation import Preparation
from polymodal.recipe.recipe import Recipe


class OnnxModel:
    """An export of `export_onnx`, which predicts as the model does.

    folder: the folder of the export
    num_threads: threads of ONNX Runtime; 0: one for each core

    Raises:
        ArtifactError: the folder holds no export.
        MissingExtraError: onnxruntime is not installed.
    """

    @check_arguments
    def __init__(self, folder: Path | str, *, num_threads: int = 0) -> None:
        try:
            import onnxruntime
        except ModuleNotFoundError:
            raise MissingExtraError("onnxruntime", "onnx", "an exported model") from None
        self.folder = Path(folder)
        self._description = json_object(self.folder / ONNX_EXPORT.manifest)
        if not ONNX_EXPORT.keys <= self._description.keys():
            raise ArtifactError(f"{folder} holds no export to ONNX; `polymodal export` writes one")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        with parsing(self.folder):
            self.recipe = Recipe.read(self.folder / "recipe.yaml")
            self.preparation = Preparation(self.recipe)
            self.preparation.load(self.folder)
            self._session = onnxruntime.InferenceSession(
                str(self.folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
            )
        self._names = [one.name for one in self._session.get_inputs()]

    @check_arguments
    def predict(self, data: Any, *, root: Path | str | None = None, strict: bool = False) -> Any:
        """The predicted value of each row; see `Model.predict`."""
        found = self._distributions(data, root, strict)
        tasks = self.preparation.tasks
        return shaped_values(data, {name: tasks[name].predict(one) for name, one in found.items()})

    @check_arguments
    def predict_proba(self, data: Any, *, root: Path | str | None = None, strict: bool = False) -> Any:
        """Probabilities, or numbers in the units of the table; see `Model.predict_proba`."""
        labels = {name: task.class_labels for name, task in self.preparation.tasks.items()}
        return shaped_probabilities(data, self._distributions(data, root, strict), labels)

    def _distributions(self, data: Any, root: Path | str | None, strict: bool) -> dict[str, np.ndarray]:
        """The distribution `[rows, k]` of each output."""
        columns, errors = self.preparation.input_columns, CellErrors(strict)
        table = open_rows(data, root, columns, self.preparation.modality_of_column)
        parts: dict[str, list[np.ndarray]] = {one["name"]: [] for one in self._description["outputs"]}
        for block in self.preparation.blocks(table, errors, size=PREDICTION_BATCH_SIZE):
            values = self._session.run(None, self._tensors(block))
            for collected, one in zip(parts.values(), values, strict=True):
                collected.append(one.astype(np.float64))
        warn_cell_errors(errors.errors)
        sizes = {one["name"]: one["shape"][1] for one in self._description["outputs"]}
        return {name: np.concatenate([np.zeros((0, sizes[name])), *some]) for name, some in parts.items()}

    def _tensors(self, block: RowBlock) -> dict[str, np.ndarray]:
        """The tensors of the rows of a block, by name; an input that no row has is filled with zeros."""
        prepared = self.preparation.prepare_block(block)
        batch = self.preparation.batch(prepared, np.arange(len(block)))
        found: dict[str, np.ndarray] = {}
        for one in self._description["inputs"]:
            if one["name"] not in self._names:
                continue
            given = batch.inputs[one["input"]]
            key = one["name"].removeprefix(f"{one['input']}.")
            if key == "present":
                found[one["name"]] = given.present.numpy()
            elif len(given.data[key]):
                found[one["name"]] = given.data[key].index_select(0, given.index).numpy()
            else:
                shape = [len(block), *(1 if size == "length" else size for size in one["shape"][1:])]
                found[one["name"]] = np.zeros(shape, one["dtype"])
        return found
