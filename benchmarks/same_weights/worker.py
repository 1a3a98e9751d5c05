"""`python -m benchmarks.same_weights.worker JOB`: run cases with the imported Polymodal.

It uses only public names, because modules have other paths in another checkout.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import polymodal
from benchmarks.same_weights.cases import Case, all_cases
from benchmarks.same_weights.content import numbers, prediction_hash, tensors


def main(job: Path) -> None:
    """Run the cases of the file `job`, and write their results next to their model directories."""
    settings = json.loads(job.read_text(encoding="utf-8"))
    source, out, data = Path(settings["source"]), Path(settings["out"]), Path(settings["data"])
    imported = Path(polymodal.__file__)
    if not imported.is_relative_to(source):
        raise RuntimeError(f"Polymodal was imported from {imported}, not from {source}")
    for case in all_cases(whole_demo=settings["whole_demo"]):
        if case.name in settings["cases"]:
            began = time.perf_counter()
            result = _result(case, out, data, settings["roots"])
            result["seconds"] = round(time.perf_counter() - began, 2)
            (out / f"{file_stem(case.name)}.json").write_text(json.dumps(result), encoding="utf-8")
            print(f"{case.name}: {result['seconds']:.1f} s {result.get('error', '')}", file=sys.stderr, flush=True)


def file_stem(case: str) -> str:
    """The file name of a case, without suffix."""
    return case.replace("/", "-").replace(" ", "_")


def missing(case: Case) -> list[str]:
    """The required modules of a case that are not installed."""
    return [module for module in case.needs if find_spec(module) is None]


def _result(case: Case, out: Path, data: Path, roots: dict[str, str]) -> dict[str, Any]:
    folder = out / file_stem(case.name)
    try:
        answers = _run(case, folder, out, data, roots)
    except Exception as error:  # noqa: BLE001  # an error is the result of its case; the other cases still run
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
    return {"tensors": tensors(folder), "numbers": numbers(folder), "predictions": answers}


def _run(case: Case, folder: Path, out: Path, data: Path, roots: dict[str, str]) -> dict[str, str]:
    """Train the model of the case in `folder`, and predict; hashes of the predictions by method."""
    model = str(out / file_stem(case.start)) if case.start else ""
    recipe, arguments = _fill([case.recipe, case.arguments], model)
    arguments |= {name: data / file for name, file in case.files.items()}
    root = roots.get(case.name)
    table = (
        {name: data / file for name, file in case.table.items()} if isinstance(case.table, dict) else data / case.table
    )
    getattr(polymodal, case.function)(table, recipe=recipe, out=folder, root=root, **arguments)
    loaded = polymodal.load(folder / "best" if case.function == "tune" else folder)
    rows = data / case.predict_table if case.predict_table else table
    return {method: prediction_hash(getattr(loaded, method)(rows, root=root)) for method in case.methods}


def _fill(value: Any, model: str) -> Any:
    """`value` with a folder instead of `{model}`."""
    if isinstance(value, dict):
        return {key: _fill(one, model) for key, one in value.items()}
    if isinstance(value, list):
        return [_fill(one, model) for one in value]
    return model if value == "{model}" else value


if __name__ == "__main__":
    main(Path(sys.argv[1]))
