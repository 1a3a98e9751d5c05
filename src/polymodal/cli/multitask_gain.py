"""The command `multitask-gain`: one model for all outputs against one model for each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import RenderableType

from polymodal.cli.inputs import all_tables, single_or_list
from polymodal.cli.options import (
    AdditionalData,
    Data,
    Json,
    Overwrite,
    RecipeFile,
    Root,
    Settings,
    Target,
    Test,
    Validation,
)
from polymodal.cli.output import print_result, rows_table
from polymodal.core.formatting import format_interval, format_score
from polymodal.core.terminal import plain_text

if TYPE_CHECKING:
    from polymodal.workflows.multitask_gain import MultitaskGain

#: Metrics of each output that are printed; the JSON file has all.
MAX_METRICS = 3


def multitask_gain(
    data: Data,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for multitask_gain.json and the models.")],
    target: Target = None,
    additional_data: AdditionalData = None,
    recipe: RecipeFile = None,
    settings: Settings = None,
    validation: Validation = None,
    test: Test = None,
    overwrite: Overwrite = False,
    root: Root = None,
    as_json: Json = False,
) -> None:
    """Train one model for all targets and one model for each, and compare their scores."""
    from polymodal.workflows.multitask_gain import multitask_gain as run

    found = run(
        all_tables(data, additional_data),
        target,
        recipe=recipe,
        settings=settings,
        validation=single_or_list(validation),
        test=single_or_list(test),
        root=root,
        out=out,
        overwrite=overwrite,
        progress=not as_json,
    )
    print_result({"out": str(out), **found.to_dict()}, gain_tables(found), as_json=as_json)


def gain_tables(result: MultitaskGain) -> list[RenderableType]:
    """The gain of the leading metrics of each output, and the cost of each model."""
    from polymodal.report.model_summary import ScoreRow, count_sentences

    gains = [
        {
            "output": output if position == 0 else "",
            "metric": metric + ("" if one["greater_is_better"] else " (lower is better)"),
            "multitask": format_score(one["multitask"]),
            "single": format_score(one["single_task"]),
            "difference": format_score(one["difference"]),
            "interval": "" if one["low"] is None else format_interval(one["low"], one["high"]),
            "result": verdict(one),
        }
        for output, metrics in result.outputs.items()
        for position, (metric, one) in enumerate(list(metrics.items())[:MAX_METRICS])
    ]
    summed = {key: sum(one[key] for one in result.single_task.values()) for key in result.multitask}
    costs = [
        {"model": name, "parameters": f"{one['parameters']:,}", "steps": one["steps"], "seconds": one["seconds"]}
        for name, one in (
            ("multitask", result.multitask),
            *((f"only {name}", one) for name, one in result.single_task.items()),
            ("sum of single", summed),
        )
    ]
    counts = {output: ScoreRow.counts_of(next(iter(metrics.values()))) for output, metrics in result.outputs.items()}
    return [rows_table(gains), *map(plain_text, count_sentences(counts)), "", rows_table(costs)]


def verdict(one: dict[str, Any]) -> str:
    """`gain` or `loss` if the interval excludes 0, else `unclear`."""
    if one["low"] is None or one["low"] <= 0 <= one["high"]:
        return "unclear"
    return "gain" if (one["low"] > 0) == one["greater_is_better"] else "loss"
