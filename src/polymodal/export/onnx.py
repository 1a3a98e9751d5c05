"""A network as an ONNX graph, with the preparation of its rows, the description of its tensors, and a check."""

from __future__ import annotations

import copy
import json
import logging
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from polymodal._version import __version__
from polymodal.checkpoint.directory_kinds import ONNX_EXPORT
from polymodal.checkpoint.int8 import Int8Linear
from polymodal.checkpoint.model_directory import write_json
from polymodal.checkpoint.output_directory import OutputDirectory
from polymodal.checkpoint.tensor_files import write_tensors
from polymodal.core.argument_types import check_arguments
from polymodal.core.errors import DataError, MissingExtraError, PolymodalError, RecipeError
from polymodal.core.writing import write_text
from polymodal.data.partition import Split
from polymodal.data.table.cell_errors import CellErrors, warn_cell_errors
from polymodal.export.check_script import SCRIPT
from polymodal.export.exported_network import ExportedNetwork, TensorName, check_exportable
from polymodal.export.graph_inputs import ROWS, changing_sizes, graph_inputs
from polymodal.inference.predictor import Predictor
from polymodal.model.model import Model
from polymodal.nn.network import Network
from polymodal.preparation.preparation import PreparedTable
from polymodal.runtime.compute import CPU

#: Rows that are stored for the check, and the fewest of them.
PARITY_ROWS, MIN_ROWS = 32, 2
#: The largest difference of an output from that of the model, relative to the output if it is above 1.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class OnnxExport:
    """What was written.

    parity_rows: the rows on which the graph was compared with the model, in a process of its own
    gap: the largest difference
    """

    folder: Path
    parity_rows: int
    gap: float


@check_arguments
def export_onnx(
    model: Model, data: Any, out: Path | str, *, root: Path | str | None = None, overwrite: bool = False
) -> OnnxExport:
    """Write a model as an ONNX graph for any runtime, and check it.

    The folder has `model.onnx`, which takes prepared tensors and returns probabilities or numbers; `export.json`, which
    names them; what `polymodal.export.onnx_model.OnnxModel` needs to prepare rows; and `check.py`, which compares the
    graph with stored predictions and needs onnxruntime, numpy and safetensors alone. The export counts only if this
    check succeeds in a new process.

    data: rows in which every input occurs, at least 2, without targets. Up to 32 are stored in the export

    Raises:
        RecipeError: the model has members other than one network, int8 products, or an output that is generated.
        DataError: there are too few rows, or an input occurs in none of them.
        PolymodalError: torch cannot export a part of the network, or the graph predicts something else.
        MissingExtraError: the extra `onnx` is not installed.
        OutputError: the folder may not be written.
    """
    network = _exportable_network(model)
    _check_packages()
    directory = OutputDirectory(Path(out), ONNX_EXPORT, overwrite)
    directory.check()
    prepared = _prepared_rows(model, data, root)
    rows = np.arange(len(prepared))
    tensors = graph_inputs(model.preparation, prepared, rows)
    predictor = Predictor(network, model.preparation, replace(model.compute, precision="fp32", device=CPU))
    predicted = predictor.predict(Split.all_rows(prepared))
    wanted = {name: task.distribution(predicted[name].values) for name, task in model.tasks.items()}
    with directory.writing() as folder:
        sizes = _write_graph(folder / "model.onnx", model, network, prepared, tensors)
        state = model.preparation.save(folder / "preparation")
        write_json(folder / "preparation.json", state)
        write_text(folder / "recipe.yaml", model.recipe.to_yaml())
        stored = {f"input.{name}": tensor for name, tensor in tensors.items()}
        stored |= {f"output.{name}": torch.from_numpy(one.astype(np.float32)) for name, one in wanted.items()}
        write_tensors(folder / "parity.safetensors", stored)
        write_json(folder / "export.json", _description(model, tensors, sizes, wanted))
        write_text(folder / "check.py", SCRIPT)
        found = run_check(folder)
    return OnnxExport(Path(out), len(prepared), found)


def run_check(folder: Path) -> float:
    """Run `check.py` of an export in a new process; the largest difference from the model.

    Raises:
        PolymodalError: the graph predicts something else than the model, or does not run.
    """
    done = subprocess.run([sys.executable, "check.py"], cwd=folder, capture_output=True, text=True)
    try:
        found = json.loads(done.stdout)
    except ValueError:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise PolymodalError(f"the exported graph does not run: {reason}") from None
    if done.returncode:
        raise PolymodalError(
            f"the exported graph differs from the model by {found['gap']:.2g}, more than {found['tolerance']:g}; "
            "nothing was written"
        )
    return float(found["gap"])


def _exportable_network(model: Model) -> Network:
    """A copy of the network in fp32."""
    if model.ensemble is not None:
        members = ", ".join(row.member for row in model.leaderboard() if row.weight)
        raise RecipeError(
            "members",
            f"the model predicts with {members}; one network can be exported: `polymodal compress RUN DATA --into "
            "network` makes one, or fit with `members: []`",
        )
    if any(isinstance(module, Int8Linear) for module in model.network.modules()):
        raise RecipeError("weights", "int8 products cannot be exported; export the model before it is compressed")
    check_exportable(model.network, model.tasks)
    return copy.deepcopy(model.network).float().eval().to(CPU)


def _check_packages() -> None:
    try:
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "onnxruntime", "onnx", "an export to ONNX") from None


def _prepared_rows(model: Model, data: Any, root: Path | str | None) -> PreparedTable:
    """The first rows, prepared."""
    table, errors = model.open(data, root), CellErrors()
    if len(table) < MIN_ROWS:
        raise DataError(f"give at least {MIN_ROWS} rows, on which the export is checked", file=table.name)
    limits = model.recipe.data.limits
    rows = np.arange(min(len(table), PARITY_ROWS))
    known = table.read_with(model.preparation.column_kinds)
    block = known.block(rows, model.preparation.input_columns, errors=errors, limits=limits)
    prepared = model.preparation.prepare_block(block)
    warn_cell_errors(errors.errors)
    return prepared


def _write_graph(
    path: Path, model: Model, network: Network, prepared: PreparedTable, tensors: Mapping[TensorName, Tensor]
) -> list[dict[int, Any]]:
    """Write the graph; the dimensions of each tensor whose size may change."""
    exported = ExportedNetwork(network, model.tasks, list(tensors))
    sizes = changing_sizes(prepared, dict(tensors))
    given = tuple(tensor.clone() for tensor in tensors.values())
    try:
        with torch.no_grad(), _quiet():
            program = torch.export.export(exported, given, dynamic_shapes=(tuple(sizes),), strict=False)
            graph = torch.onnx.export(
                program,
                (),
                dynamo=True,
                input_names=[str(name) for name in tensors],
                output_names=list(network.outputs),
                verbose=False,
            )
            assert graph is not None
            graph.save(str(path))
    except Exception as error:  # torch has no common class for what it cannot export
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise PolymodalError(f"torch cannot export this network: {reason}") from error
    return sizes


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the notes of the exporter on packages that are not used here."""
    log = logging.getLogger("torch.onnx")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(before)


def _description(
    model: Model, tensors: Mapping[TensorName, Tensor], sizes: list[dict[int, Any]], wanted: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """What `export.json` holds."""
    inputs = [
        {
            "name": str(name),
            "input": name.input,
            "columns": model.preparation.modalities[name.input].columns,
            "dtype": str(tensor.dtype).removeprefix("torch."),
            "shape": [ROWS, *("length" if at in changing else size for at, size in enumerate(tensor.shape) if at)],
        }
        for (name, tensor), changing in zip(tensors.items(), sizes, strict=True)
    ]
    outputs = [
        {"name": name, "task": model.tasks[name].options.name, "shape": [ROWS, one.shape[1]]}
        | {"labels": list(model.tasks[name].class_labels)}
        for name, one in wanted.items()
    ]
    return {
        "polymodal": __version__,
        "format": "onnx",
        "inputs": inputs,
        "outputs": outputs,
        "parity_rows": next(len(one) for one in wanted.values()),
        "tolerance": TOLERANCE,
    }
