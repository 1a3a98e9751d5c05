"""`polymodal tune`: search for the best recipe, and what it ends with on the terminal."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType

from polymodal.cli.options import Data, Folds, Json, Root, Settings, Target
from polymodal.cli.output import print_result
from polymodal.core.errors import RecipeError

if TYPE_CHECKING:
    from polymodal.tuning.results import Tuning

UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


def tune(
    data: Data,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for trials, leaderboard and models.")],
    target: Target = None,
    time: Annotated[str, typer.Option("--time", help="How long to search: 90s, 10m, 2h, or none.")] = "10m",
    trials: Annotated[int | None, typer.Option(min=1, help="Most recipes to try.")] = None,
    folds: Folds = 5,
    space: Annotated[
        Path | None,
        typer.Option(help="Search space, YAML or JSON: recipe paths with [choices] or {low, high, log}."),
    ] = None,
    objective: Annotated[
        list[str] | None,
        typer.Option(
            help="score (default), latency, memory, size or seconds; repeat for several, the one that decides first."
        ),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes that try recipes at the same time.")] = 1,
    recipe: Annotated[
        Path | None, typer.Option("--recipe", "-r", help="Recipe file; what it says is not searched.")
    ] = None,
    settings: Settings = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the search.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the search in --out.")] = False,
    root: Root = None,
    as_json: Json = False,
) -> None:
    """Search for the recipe that scores best by cross-validation, beside baselines, and train it on all rows."""
    from polymodal.tuning.tune import tune as run

    found = run(
        data,
        target,
        recipe=recipe,
        settings=settings,
        space=space,
        folds=folds,
        trials=trials,
        seconds=as_seconds(time),
        objectives=list(objective or ["score"]),
        jobs=jobs,
        out=out,
        resume=resume,
        root=root,
        seed=seed,
        progress=not as_json,
    )
    shown = [] if as_json else summary(found)
    print_result({"out": str(out), **found.to_dict()}, shown, as_json=as_json)


def as_seconds(text: str) -> float | None:
    """Seconds of `90`, `90s`, `10m` or `1.5h`; None for `none`.

    Raises:
        RecipeError: the text is none of these.
    """
    if text.strip().lower() == "none":
        return None
    matched = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip().lower())
    if matched is None or float(matched[1]) == 0:
        raise RecipeError("", f"--time takes 90s, 10m, 2h or none; given: {text!r}")
    return float(matched[1]) * UNITS[matched[2]]


def summary(found: Tuning) -> list[RenderableType]:
    """The leaderboard, what its scores are worth, what the inputs are worth, and where things are."""
    from polymodal.core.formatting import format_interval, format_score
    from polymodal.tuning.leaderboard import board, own_direction

    folds, metric = found.folds, found.folds.metric.name
    lines: list[RenderableType] = [board(found.entries, folds)]
    best, corrected = format_score(own_direction(found.best.score, folds)), found.corrected.get("best")
    tried = sum(entry.status == "complete" for entry in found.entries)
    lines.append(f"best  {found.best.name}, {metric} {best}")
    if corrected is not None and tried > 1:
        lines.append(
            f"      The best of {tried} looks better than it is. Corrected for the choice: {format_score(corrected.value)} "
            f"({format_interval(corrected.low, corrected.high)})"
        )
    if found.selection is not None and found.ensemble is not None:
        members = ", ".join(member.name for member in found.selection.members)
        mixed = format_score(own_direction(found.selection.score, folds))
        lines.append(f"ensemble  {metric} {mixed} by {found.selection.method}: {members}")
        honest = found.corrected.get("ensemble")
        if honest is not None:
            lines.append(f"      corrected: {format_score(honest.value)} ({format_interval(honest.low, honest.high)})")
    if len(found.objectives) > 1:
        lines.append(f"front of {', '.join(found.objectives)}: {', '.join(one.name for one in found.front)}")
    for output in found.audit.outputs.values():
        lines += ["", *(f"{one.name}  {one.sentence}" for one in output.inputs), output.sentence]
    lines += [f"note  {note}" for note in found.audit.notes]
    lines += [f"note  {attempt.name}: {attempt.reason}" for attempt in found.failed[:5]]
    lines.append(f"\nmodel {found.folder / 'best'}   report {found.folder / 'tuning.html'}")
    if found.ensemble is not None:
        lines.append(f"ensemble {found.folder / 'ensemble'}")
    return lines
