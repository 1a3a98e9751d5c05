"""What the commands that train end with on the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import RenderableType

from polymodal.cli.output import emit, note

if TYPE_CHECKING:
    from polymodal.model.model import Model
    from polymodal.model.run_record import ParameterCounts, RunRecord


def finished(model: Model, out: Path, as_json: bool) -> None:
    """Print what `fit` ends with: the scores, notices, faults, and where things are."""
    from polymodal.report.table import score_table

    run: RunRecord = model.run
    seconds = run.seconds
    value = {"out": str(out), "metrics": model.metrics, "seconds": vars(seconds), "notices": run.notices}
    value["faults"] = vars(run.faults)
    shown: list[RenderableType] = [
        score_table(model),
        f"trained {_trained(run.parameters)} parameters in {seconds.training:.0f} s ({run.rows_per_second:,.0f} "
        f"rows/s), {seconds.total:.0f} s with preparation and scoring",
        f"model {out}   report {out / 'report.html'}",
    ]
    emit(value, shown, as_json=as_json)
    for shared in run.shared_items:
        if "train" not in shared.between:
            continue
        between = " and ".join(shared.between)
        aside(f"input {shared.input!r}: {shared.items} items are in {between} both ({shared.rows} rows)", as_json)
    for notice in run.notices:
        aside(notice, as_json)
    faults = run.faults
    if faults.count:
        by_column = ", ".join(f"{column}: {count}" for column, count in faults.by_column.items())
        aside(f"{faults.count} cells could not be used ({by_column}); listed in {out / 'faults.jsonl'}", as_json)


def _trained(counts: ParameterCounts) -> str:
    all_, some = counts.total, counts.trainable
    return f"{all_:,}" if some == all_ else f"{some:,} of {all_:,}"


def tell_faults(lines: list[str], as_json: bool) -> None:
    for line in lines[:10]:
        aside(line, as_json)
    if len(lines) > 10:
        aside(f"and {len(lines) - 10} more cells that could not be used", as_json)


def aside(text: str, as_json: bool) -> None:
    if not as_json:
        note(text)
