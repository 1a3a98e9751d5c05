"""Compress a trained model: smaller weight formats, compared on the user's rows."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from polymodal.applications.measurement import measure_models
from polymodal.checkpoint.directory_kinds import MODEL
from polymodal.checkpoint.model_directory import write_json
from polymodal.checkpoint.output_directory import OutputDirectory
from polymodal.checkpoint.output_file import paths_in
from polymodal.checkpoint.shared_weights import shared_state
from polymodal.checkpoint.weight_format import MIN_LARGE_SIZE, WeightFormat
from polymodal.core.argument_types import check_arguments
from polymodal.core.errors import PolymodalError, RecipeError
from polymodal.core.paths import media_cache_folder, scratch_folder
from polymodal.data.table.cell_errors import CellErrors, warn_cell_errors
from polymodal.model.model import Model
from polymodal.runtime.compute import keep_freed_memory
from polymodal.runtime.cpu_kernels import supports_int8

FILE = "compression.json"
FORMATS = {
    "fp32": WeightFormat(),
    "bf16": WeightFormat(weights="bf16"),
    "int8_weight_only": WeightFormat(weights="int8"),
    "int8_dynamic": WeightFormat(weights="int8", arithmetic="int8"),
}
#: int8_dynamic is chosen for its speed only if it is at least this many times faster.
MIN_SPEEDUP = 1.1


@dataclass(frozen=True)
class FormatMeasurement:
    """Size, speed and score of a model in one weight format; for the fields, see `ModelMeasurement`. The agreement is
    that with fp32."""

    dtype: str
    size_mib: float
    latency_ms: float
    rows_per_second: float
    score: float | None
    agreement: float


@dataclass(frozen=True)
class CompressionResult:
    """The weight formats that were measured, and the chosen one.

    model: the model in the chosen format
    metric: name of the metric of the scores
    """

    model: Model
    chosen: str
    metric: str
    measurements: list[FormatMeasurement]

    def to_dict(self) -> dict[str, Any]:
        """The measurements, JSON-ready."""
        return {
            "chosen": self.chosen,
            "metric": self.metric,
            "formats": [asdict(measurement) for measurement in self.measurements],
        }


@check_arguments
def compress(
    model: Model,
    data: Any,
    *,
    dtype: str | None = None,
    tolerance: float = 0.005,
    root: Path | str | None = None,
    out: Path | str | None = None,
    overwrite: bool = False,
) -> CompressionResult:
    """Measure a model in smaller weight formats on labeled rows, and keep the best.

    data, root: rows that were not used for training, as in `Model.evaluate`
    dtype: one of `FORMATS`; default: the smallest format whose score is at most `tolerance` (in units of the
        metric) below the score in fp32. int8_dynamic is preferred to int8_weight_only, which has the same size, only if
        it is at least 1.1 times as fast, for single rows or in batches. It is skipped if the processor does not support
        int8. A format that changes no weight, since no matrix is large enough, is neither measured nor chosen.
    out: directory for the compressed model, with the measurements in `compression.json`
    overwrite: replace the model in `out`

    Raises:
        PolymodalError: the model has no outputs, `dtype` is unknown or changes nothing, or this processor does not
            support int8_dynamic.
        DataError: a column is missing.
        OutputError: as `Model.save`.
    """
    directory = None if out is None else OutputDirectory(Path(out), MODEL, overwrite, inputs=paths_in(data))
    if directory is not None:
        directory.check()
    if not model.tasks:
        raise PolymodalError(
            "this model has no outputs, so its compressed forms cannot be scored; fit a model from it "
            "(training.init_from) and compress that model"
        )
    if not tolerance >= 0:
        raise RecipeError("tolerance", f"must be a number of at least 0, not {tolerance}")
    if dtype is not None and dtype not in FORMATS:
        raise PolymodalError(f"unknown dtype {dtype!r}: choose from {', '.join(FORMATS)}")
    if dtype == "int8_dynamic" and not supports_int8():
        raise PolymodalError(
            "int8_dynamic needs a processor and a build of torch that multiply 8-bit integers (on x86: VNNI), and "
            "would not be faster here; use int8_weight_only or bf16"
        )
    if model.ensemble is not None:
        raise PolymodalError(
            "this model has members beside a network, which have no other number format; teach one small member with "
            "`distill` (on the command line: --into network --train TABLE)"
        )
    weights = model.network.state_dict()
    if dtype not in (None, "fp32") and not FORMATS[dtype].changes(weights):
        raise PolymodalError(
            f"{dtype} would change nothing: no weight matrix of this model has {MIN_LARGE_SIZE:,} numbers or more, and "
            "smaller ones stay in fp32"
        )
    keep_freed_memory()
    variants = {
        name: convert_model(model, weight_format)
        for name, weight_format in FORMATS.items()
        if weight_format.weights == "fp32" or weight_format.changes(weights)
        if weight_format.arithmetic == "float" or supports_int8()
    }
    cell_errors = CellErrors()
    with scratch_folder() as folder:
        prepared = model.preparation.prepare(
            model.open(data, root, targets=True), cell_errors, folder=folder, cache=media_cache_folder()
        )
        found = measure_models({name: (variant, prepared) for name, variant in variants.items()})
    measurements = [FormatMeasurement(name, **asdict(one)) for name, one in found.items()]
    warn_cell_errors(cell_errors.errors)
    task = next(iter(model.tasks.values()))
    chosen = dtype or _select(measurements, tolerance, task.metrics[0].greater_is_better)
    result = CompressionResult(variants[chosen], chosen, task.metrics[0].name, measurements)
    if directory is not None:
        with directory.writing() as work:
            variants[chosen].write_files(work)
            write_json(work / FILE, result.to_dict())
    return result


def convert_model(model: Model, weight_format: WeightFormat) -> Model:
    """A copy of a model with its weights rounded and computed with in `weight_format`."""
    network = copy.deepcopy(model.network).eval()
    network.load_state_dict(weight_format.from_file(weight_format.to_file(shared_state(network))))
    weight_format.apply_to(network)
    parts = model.recipe, model.preparation, network, model.metrics, model.run, weight_format
    return Model(*parts, calibration=model.calibration)


def _select(measurements: list[FormatMeasurement], tolerance: float, greater_is_better: bool) -> str:
    """The dtype of the smallest format that is good enough; see `compress`."""
    by_dtype = {measurement.dtype: measurement for measurement in measurements}
    full = by_dtype["fp32"]

    def is_good(measurement: FormatMeasurement) -> bool:
        score = measurement.score
        if score is None or full.score is None:
            return measurement.agreement >= 1 - tolerance
        loss = (full.score - score) if greater_is_better else (score - full.score) / max(abs(full.score), 1e-12)
        return loss <= tolerance

    usable = [measurement for measurement in measurements if is_good(measurement)]
    smallest = min(usable, key=lambda measurement: (measurement.size_mib, measurement.dtype != "int8_weight_only"))
    quick = by_dtype.get("int8_dynamic")
    if smallest.dtype == "int8_weight_only" and quick in usable and quick is not None:
        faster = max(smallest.latency_ms / quick.latency_ms, quick.rows_per_second / smallest.rows_per_second)
        slower = min(smallest.latency_ms / quick.latency_ms, quick.rows_per_second / smallest.rows_per_second)
        if faster >= MIN_SPEEDUP and slower >= 1 / MIN_SPEEDUP:
            return quick.dtype
    return smallest.dtype
