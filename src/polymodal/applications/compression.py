"""A trained model in smaller forms, measured side by side on the user's rows."""

from __future__ import annotations

import copy
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from polymodal.checkpoint.model_directory import write_json
from polymodal.checkpoint.weight_format import Form
from polymodal.core.errors import PolymodalError
from polymodal.core.paths import media_folder, scratch
from polymodal.data.partition import Split
from polymodal.data.table.cell_errors import Faults, warn_of_faults
from polymodal.evaluation.scores import score_metric
from polymodal.inference.batching import PREDICTION_BATCH
from polymodal.model.model import Model
from polymodal.preparation.preparation import PreparedTable
from polymodal.runtime.compute import keep_freed_memory
from polymodal.runtime.cpu_kernels import multiplies_int8
from polymodal.runtime.random_state import own_random_state

FILE = "compression.json"
FORMS = {
    "fp32": Form(),
    "bf16": Form(weights="bf16"),
    "int8": Form(weights="int8"),
    "int8 arithmetic": Form(weights="int8", arithmetic="int8"),
}
#: Times that each form is timed, in turn with the others.
ROUNDS = 7
#: A form that computes otherwise must be so many times faster to be taken for its speed.
FASTER = 1.1


@dataclass(frozen=True)
class Measured:
    """One form of a model on the rows.

    size_mib: of the weights' file; latency_ms: median for one prepared row; rows_per_second: many rows at once
    score: the first metric of the first output; None where undefined
    agreement: the share of answers equal to those of the model as it was (numbers: within 1 % of their spread)
    """

    form: str
    size_mib: float
    latency_ms: float
    rows_per_second: float
    score: float | None
    agreement: float


@dataclass(frozen=True)
class Compression:
    """The forms that were tried, and the one that was chosen.

    model: in the chosen form
    metric: of the scores
    """

    model: Model
    chosen: str
    metric: str
    measured: list[Measured]

    def to_dict(self) -> dict[str, Any]:
        """The measurements, JSON-ready."""
        return {"chosen": self.chosen, "metric": self.metric, "forms": [asdict(one) for one in self.measured]}


def compress(
    model: Model,
    data: Any,
    *,
    form: str | None = None,
    tolerance: float = 0.005,
    root: Path | str | None = None,
    out: Path | str | None = None,
) -> Compression:
    """Try a model's smaller forms on rows with targets, and keep the best.

    data, root: rows that were not trained on, as `Model.evaluate` takes them
    form: one of `FORMS`; silent: the smallest whose score is at most `tolerance` (of the metric's own size) below that
        of fp32; of two equally small ones, int8 arithmetic only where it is 1.1 times as fast, one row at a time or
        many. Where the processor does not multiply in int8, that form is not tried.
    out: the directory to write, with the measurements in `compression.json`

    Raises:
        PolymodalError: the model predicts nothing, `form` is not known, or this processor has no int8 arithmetic for
            it.
        DataError: a column is missing.
    """
    if not model.tasks:
        raise PolymodalError(
            "this model predicts nothing, so smaller forms cannot be scored; compress what is fitted on it"
        )
    if form is not None and form not in FORMS:
        raise PolymodalError(f"there is no form {form!r}: choose from {', '.join(FORMS)}")
    if form == "int8 arithmetic" and not multiplies_int8():
        raise PolymodalError(
            "this processor, or this build of torch, does not multiply eight-bit integers (on x86 that needs VNNI), so "
            "int8 arithmetic would be no faster here; use int8 or bf16"
        )
    keep_freed_memory()
    variants = {
        name: in_form(model, one) for name, one in FORMS.items() if one.arithmetic == "float" or multiplies_int8()
    }
    faults = Faults()
    with scratch() as folder:
        prepared = model.preparation.prepare(
            model.open(data, root, targets=True), faults, folder=folder, cache=media_folder()
        )
        measured = _measure(model, variants, prepared)
    warn_of_faults(faults.found)
    task = next(iter(model.tasks.values()))
    chosen = form or _chosen(measured, tolerance, task.metrics[0].greater_is_better)
    result = Compression(variants[chosen], chosen, task.metrics[0].name, measured)
    if out is not None:
        variants[chosen].save(out)
        write_json(Path(out) / FILE, result.to_dict())
    return result


def in_form(model: Model, form: Form) -> Model:
    """A copy of a model whose weights are rounded as `form` keeps them, and compute as it says."""
    network = copy.deepcopy(model.network).eval()
    network.load_state_dict(form.unpacked(form.packed(network.state_dict())))
    form.applied(network)
    return Model(model.recipe, model.preparation, network, model.metrics, model.run, form)


def file_mib(model: Model) -> float:
    """MiB of the weights as they lie in the model directory."""
    return sum(tensor.nbytes for tensor in model.form.packed(model.network.state_dict()).values()) / 2**20


def _measure(model: Model, variants: dict[str, Model], prepared: PreparedTable) -> list[Measured]:
    """Every variant on the same rows, timed in turn."""
    name, task = next(iter(model.tasks.items()))
    rows = np.arange(prepared.rows)
    one: dict[str, list[float]] = {form: [] for form in variants}
    many: dict[str, list[float]] = {form: [] for form in variants}
    decided: dict[str, np.ndarray] = {}
    with own_random_state():
        for turn in range(ROUNDS + 1):
            for form, variant in variants.items():
                begun = time.perf_counter()
                _decide(variant, prepared, rows[turn % len(rows) :][:1])
                between = time.perf_counter()
                found = _decide(variant, prepared, rows[:PREDICTION_BATCH])
                ended = time.perf_counter()
                if turn:  # the first turn warms up
                    one[form].append(between - begun)
                    many[form].append(ended - between)
                elif len(rows) <= PREDICTION_BATCH:
                    decided[form] = task.distribution(found[name].values)
                else:
                    decided[form] = task.distribution(_decide(variant, prepared, rows)[name].values)
    value, present = prepared.targets[name]
    measured = []
    for form, variant in variants.items():
        score = score_metric(task.metrics[0], task, decided[form], value, present, prepared.weight)
        measured.append(
            Measured(
                form,
                round(file_mib(variant), 3),
                round(statistics.median(one[form]) * 1e3, 3),
                round(min(len(rows), PREDICTION_BATCH) / statistics.median(many[form]), 1),
                float(score) if np.isfinite(score) else None,
                _agreement(decided["fp32"], decided[form], task.space),
            )
        )
    return measured


def _decide(model: Model, prepared: PreparedTable, rows: np.ndarray) -> Any:
    return model.predictor.predict(Split(prepared, rows))


def _agreement(before: np.ndarray, after: np.ndarray, space: str) -> float:
    if space == "text":
        return float((before == after).mean())
    if space == "categorical":
        return float((before.argmax(-1) == after.argmax(-1)).mean())
    if space == "binary":
        return float(((before > 0.5) == (after > 0.5)).mean())
    spread = before.std(0).clip(1e-12)
    return float((np.abs(before - after) <= 0.01 * spread).mean())


def _chosen(measured: list[Measured], tolerance: float, greater: bool) -> str:
    """The smallest form that is good enough; see `compress`."""
    by_name = {one.form: one for one in measured}
    full = by_name["fp32"]

    def good(one: Measured) -> bool:
        if one.score is None or full.score is None:
            return one.agreement >= 1 - tolerance
        lost = (full.score - one.score) if greater else (one.score - full.score) / max(abs(full.score), 1e-12)
        return lost <= tolerance

    usable = [one for one in measured if good(one)]
    smallest = min(usable, key=lambda one: (one.size_mib, one.form != "int8"))
    quick = by_name.get("int8 arithmetic")
    if smallest.form == "int8" and quick in usable and quick is not None:
        faster = max(smallest.latency_ms / quick.latency_ms, quick.rows_per_second / smallest.rows_per_second)
        slower = min(smallest.latency_ms / quick.latency_ms, quick.rows_per_second / smallest.rows_per_second)
        if faster >= FASTER and slower >= 1 / FASTER:
            return quick.form
    return smallest.form
