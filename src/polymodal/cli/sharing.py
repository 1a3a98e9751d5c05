"""`polymodal sharing`: what each output gains or loses by sharing one body."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import RenderableType

from polymodal.cli.inputs import single_or_list, all_tables
from polymodal.cli.options import Data, Json, More, RecipeFile, Root, Settings, Target, Test, Valid
from polymodal.cli.output import print_result, rows_table, format_cell

if TYPE_CHECKING:
    from polymodal.workflows.multitask_gain import Sharing

#: Metrics of each output that are shown; `sharing.json` has all.
MOST_METRICS = 3


def sharing(
    data: Data,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for sharing.json and the models.")],
    target: Target = None,
    more: More = None,
    recipe: RecipeFile = None,
    settings: Settings = None,
    valid: Valid = None,
    test: Test = None,
    root: Root = None,
    as_json: Json = False,
) -> None:
    """Train one model for all targets and a model for each, and show what each gains or loses by sharing."""
    from polymodal.workflows.multitask_gain import sharing as run

    found = run(
        all_tables(data, more),
        target,
        recipe=recipe,
        settings=settings,
        valid=single_or_list(valid),
        test=single_or_list(test),
        root=root,
        out=out,
        progress=not as_json,
    )
    print_result({"out": str(out), **found.to_dict()}, grids(found), as_json=as_json)


def grids(found: Sharing) -> list[RenderableType]:
    """What the leading metrics of each output gain, then what that costs."""
    gains = [
        {
            "output": output if place == 0 else "",
            "metric": metric + ("" if one["greater_is_better"] else " (less is better)"),
            "shared": one["shared"],
            "alone": one["alone"],
            "difference": one["difference"],
            "interval": "" if one["low"] is None else f"{short(one['low'])} to {short(one['high'])}",
            "it": verdict(one),
        }
        for output, metrics in found.outputs.items()
        for place, (metric, one) in enumerate(list(metrics.items())[:MOST_METRICS])
    ]
    summed = {key: sum(one[key] for one in found.alone.values()) for key in found.shared}
    costs = [
        {"model": name, "parameters": f"{one['parameters']:,}", "steps": one["steps"], "seconds": one["seconds"]}
        for name, one in (
            ("all outputs in one", found.shared),
            *((f"{name} alone", one) for name, one in found.alone.items()),
            ("those alone, together", summed),
        )
    ]
    return [rows_table(gains), "", rows_table(costs)]


def verdict(one: dict[str, Any]) -> str:
    """In a word, as far as the interval tells."""
    if one["low"] is None or one["low"] <= 0 <= one["high"]:
        return "not shown"
    return "gains" if (one["low"] > 0) == one["greater_is_better"] else "loses"
