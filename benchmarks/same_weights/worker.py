"""`python -m benchmarks.same_weights.worker JOB`: run cases with the Polymodal that is imported here.

Only public names of it are used, since modules lie elsewhere in another checkout.
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
from benchmarks.same_weights.content import answer, numbers, tensors


def main(job: Path) -> None:
    """Run the cases that the file `job` names, and write what each came to beside their model directories."""
    said = json.loads(job.read_text(encoding="utf-8"))
    source, out, data = Path(said["source"]), Path(said["out"]), Path(said["data"])
    imported = Path(polymodal.__file__)
    if not imported.is_relative_to(source):
        raise RuntimeError(f"Polymodal was imported from {imported}, not from {source}")
    for case in all_cases(whole_demo=said["whole_demo"]):
        if case.name in said["cases"]:
            begun = time.perf_counter()
            found = _found(case, out, data, said["roots"])
            found["seconds"] = round(time.perf_counter() - begun, 2)
            (out / f"{place(case.name)}.json").write_text(json.dumps(found), encoding="utf-8")
            print(f"{case.name}: {found['seconds']:.1f} s {found.get('error', '')}", file=sys.stderr, flush=True)


def place(case: str) -> str:
    """The name of a case, as that of a folder."""
    return case.replace("/", "-").replace(" ", "_")


def missing(case: Case) -> list[str]:
    """The modules that a case needs and that are not installed."""
    return [module for module in case.needs if find_spec(module) is None]


def _found(case: Case, out: Path, data: Path, roots: dict[str, str]) -> dict[str, Any]:
    folder = out / place(case.name)
    try:
        answers = _run(case, folder, out, data, roots)
    except Exception as error:  # noqa: BLE001  # whatever a case raises is its result; the others still run
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
    return {"tensors": tensors(folder), "numbers": numbers(folder), "predictions": answers}


def _run(case: Case, folder: Path, out: Path, data: Path, roots: dict[str, str]) -> dict[str, str]:
    """Train the case's model into `folder` and ask it; the answers by method."""
    model = str(out / place(case.of)) if case.of else ""
    recipe, arguments = _filled([case.recipe, case.arguments], model)
    arguments |= {name: data / file for name, file in case.files.items()}
    root = roots.get(case.name)
    table = (
        {name: data / file for name, file in case.table.items()} if isinstance(case.table, dict) else data / case.table
    )
    getattr(polymodal, case.verb)(table, recipe=recipe, out=folder, root=root, **arguments)
    loaded = polymodal.load(folder / "best" if case.verb == "tune" else folder)
    rows = data / case.asked if case.asked else table
    return {method: answer(getattr(loaded, method)(rows, root=root)) for method in case.asks}


def _filled(value: Any, model: str) -> Any:
    """`value` with a folder in place of `{model}`."""
    if isinstance(value, dict):
        return {key: _filled(one, model) for key, one in value.items()}
    if isinstance(value, list):
        return [_filled(one, model) for one in value]
    return model if value == "{model}" else value


if __name__ == "__main__":
    main(Path(sys.argv[1]))
