"""The commands that plan a training or run one: fit, pretrain, recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType

from polymodal.cli.inputs import one_or_more, training_settings, with_more
from polymodal.cli.options import (
    Data,
    From,
    Json,
    ModelOut,
    More,
    Overwrite,
    RecipeFile,
    Resume,
    Root,
    Settings,
    Strict,
    Target,
    Test,
    Valid,
)
from polymodal.cli.output import emit, grid, note

if TYPE_CHECKING:
    from polymodal.model.model import Model
    from polymodal.model.run_record import ParameterCounts


def fit(
    data: Data,
    out: ModelOut,
    target: Target = None,
    more: More = None,
    recipe: RecipeFile = None,
    start: From = None,
    settings: Settings = None,
    valid: Valid = None,
    test: Test = None,
    unlabelled: Annotated[str | None, typer.Option(help="Table of rows without target to train on as well.")] = None,
    root: Root = None,
    strict: Strict = False,
    resume: Resume = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Train a model on a table, score it, and write a model directory with a report."""
    from polymodal.workflows.fit import fit as run

    model = run(
        with_more(data, more),
        target,
        recipe=recipe,
        settings=training_settings(settings, strict),
        valid=one_or_more(valid),
        test=one_or_more(test),
        start=start,
        unlabelled=unlabelled,
        root=root,
        out=out,
        resume=resume,
        overwrite=overwrite,
        progress=not as_json,
    )
    finished(model, out, as_json)


def pretrain(
    data: Annotated[str, typer.Argument(help="A table as `fit` takes it; it needs no target.")],
    out: ModelOut,
    objective: Annotated[
        list[str] | None,
        typer.Option("--objective", help="What to learn, by name (polymodal list objective); repeat for several."),
    ] = None,
    recipe: RecipeFile = None,
    start: From = None,
    settings: Settings = None,
    more: More = None,
    valid: Valid = None,
    test: Test = None,
    root: Root = None,
    strict: Strict = False,
    resume: Resume = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Train a model on its inputs alone: what belongs together, what was masked. `fit --from` goes on from it."""
    from polymodal.workflows.fit import pretrain as run

    model = run(
        with_more(data, more),
        objective,
        recipe=recipe,
        settings=training_settings(settings, strict),
        valid=one_or_more(valid),
        test=one_or_more(test),
        start=start,
        root=root,
        out=out,
        resume=resume,
        overwrite=overwrite,
        progress=not as_json,
    )
    finished(model, out, as_json)


def recipe(
    data: Data,
    target: Target = None,
    more: More = None,
    recipe: RecipeFile = None,
    settings: Settings = None,
    root: Root = None,
    as_json: Json = False,
) -> None:
    """Show what `fit` would do: the role of every column, the complete recipe, and what it would cost."""
    from polymodal.experiments.estimate import estimate
    from polymodal.workflows.fit import plan_fit

    plan, parts = plan_fit(with_more(data, more), target, recipe=recipe, settings=settings, root=root)
    cost = estimate(plan, parts)
    roles = [vars(role) for role in plan.roles]
    value = {"roles": roles, "estimate": cost.to_dict(), "recipe": plan.recipe.to_dict()}
    shown: list[RenderableType] = [
        grid([{"column": r["column"], "role": r["role"], "kind": r["kind"], "why": r["reason"]} for r in roles]),
        cost.text(),
        "",
        plan.recipe.to_yaml(),
    ]
    emit(value, shown, as_json=as_json)


def finished(model: Model, out: Path, as_json: bool) -> None:
    """Print what `fit` ends with: the scores, notices, faults, and where things are."""
    from polymodal.report.table import score_table

    run, seconds, faults = model.run, model.run.seconds, model.run.faults
    value = {"out": str(out), "metrics": model.metrics, "seconds": vars(seconds), "notices": run.notices}
    value["faults"] = vars(faults)
    shown: list[RenderableType] = [
        score_table(model),
        f"trained {_trained(run.parameters)} parameters in {seconds.training:.0f} s ({run.rows_per_second:,.0f} "
        f"rows/s), {seconds.total:.0f} s with preparation and scoring",
        f"model {out}   report {out / 'report.html'}",
    ]
    emit(value, shown, as_json=as_json)
    if as_json:
        return
    for shared in run.shared_items:
        if "train" not in shared.between:
            continue
        between = " and ".join(shared.between)
        note(f"input {shared.input!r}: {shared.items} items are in {between} both ({shared.rows} rows)")
    for notice in run.notices:
        note(notice)
    if faults.count:
        by_column = ", ".join(f"{column}: {count}" for column, count in faults.by_column.items())
        note(f"{faults.count} cells could not be used ({by_column}); listed in {out / 'faults.jsonl'}")


def _trained(counts: ParameterCounts) -> str:
    all_, some = counts.total, counts.trainable
    return f"{all_:,}" if some == all_ else f"{some:,} of {all_:,}"
