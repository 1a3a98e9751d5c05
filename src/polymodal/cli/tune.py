"""The command `tune`: search for the best recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType

from polymodal.cli.inputs import as_seconds
from polymodal.cli.options import Data, Folds, Json, Overwrite, PreparedRows, Root, Settings, Storage, Target
from polymodal.cli.output import print_next, print_note, print_result
from polymodal.core.formatting import metric_name
from polymodal.core.terminal import labeled_lines

if TYPE_CHECKING:
    from polymodal.tuning.candidate import Candidate
    from polymodal.tuning.results import TuningResult


def tune(
    data: Data,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the trials, the leaderboard and the models.")],
    target: Target = None,
    time_limit: Annotated[
        str, typer.Option("--time-limit", help="Time limit of the search: 90s, 10m, 2h or none.")
    ] = "10m",
    trials: Annotated[int | None, typer.Option(min=1, help="Largest number of trials.")] = None,
    folds: Folds = 5,
    space: Annotated[
        Path | None,
        typer.Option(help="Search space (YAML or JSON): recipe keys with a list of choices, or with low, high, log."),
    ] = None,
    optimize: Annotated[
        list[str] | None,
        typer.Option(
            help="score (default), latency, memory, size or seconds; repeat for several, the most important first."
        ),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Number of parallel processes.")] = 1,
    engine: Annotated[
        str, typer.Option(help="local, or ray: the cluster at RAY_ADDRESS, or Ray on this machine.")
    ] = "local",
    storage: Storage = None,
    prepared: PreparedRows = None,
    recipe: Annotated[
        Path | None, typer.Option("--recipe", "-r", help="Recipe file; the keys in it are not searched.")
    ] = None,
    settings: Settings = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the search.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the search in --out.")] = False,
    overwrite: Overwrite = False,
    root: Root = None,
    as_json: Json = False,
) -> None:
    """Search for the best recipe by cross-validation, compare it with baselines, and train it on all rows."""
    from polymodal.tuning.tune import tune as run

    found = run(
        data,
        target,
        recipe=recipe,
        settings=settings,
        space=space,
        folds=folds,
        trials=trials,
        time_limit=as_seconds(time_limit),
        optimize=list(optimize or ["score"]),
        jobs=jobs,
        engine=engine,  # type: ignore[arg-type]  # checked against the names
        storage=storage,
        prepared=prepared,
        out=out,
        resume=resume,
        overwrite=overwrite,
        root=root,
        seed=seed,
        progress=not as_json,
    )
    shown = [] if as_json else summary(found)
    then = [["predict", str(found.folder / "best"), "NEW_ROWS", "--out", "predictions.csv"]]
    if _better_baseline(found) is not None:
        targets = [word for name in target or [] for word in ("--target", name)]
        then.append(["fit", data, *targets, "--quality", "balanced", "--out", "NEW_FOLDER"])
    print_result({"out": str(out), **found.to_dict()}, ["", *shown, *([""] if notes(found) else [])], as_json=as_json)
    if not as_json:
        for text in notes(found):
            print_note(text)
        print_next(then)


def summary(result: TuningResult) -> list[RenderableType]:
    """The leaderboard, the selected model, the value of each input, and the paths."""
    from polymodal.tuning.leaderboard import leaderboard_table

    lines = [*_selection(result)]
    for output in result.audit.outputs.values():
        lines += [("", ""), *((one.name, one.summary) for one in output.inputs), ("", output.summary)]
    lines += [("", ""), ("model", str(result.folder / "best"))]
    if result.ensemble is not None:
        lines.append(("ensemble", str(result.folder / "ensemble")))
    lines.append(("report", str(result.folder / "tuning.html")))
    return [leaderboard_table(result.entries, result.folds), "", labeled_lines(lines)]


def _better_baseline(found: TuningResult) -> Candidate | None:
    """The best baseline if it is better than the best trial. `fit --quality` has it as a member."""
    baselines = [entry.candidate for entry in found.entries if entry.status == "baseline"]
    best = max(baselines, key=lambda one: one.score if one.score == one.score else float("-inf"), default=None)
    return best if best is not None and best.score > found.best.score else None


def _selection(found: TuningResult) -> list[tuple[str, str]]:
    """The best trial, the ensemble, and the best baseline if it is better."""
    from polymodal.core.formatting import count_noun, format_interval, format_score
    from polymodal.tuning.leaderboard import metric_value

    folds, metric = found.folds, metric_name(found.folds.metric.name)

    def score(value: float) -> str:
        return format_score(metric_value(value, folds))

    lines = [("best", f"{_described(found.best)}: {metric} {score(found.best.score)}")]
    corrected = found.corrected.get("best")
    tried = sum(entry.status == "complete" for entry in found.entries)
    if corrected is not None and tried > 1:
        between = format_interval(corrected.low, corrected.high)
        note = f"without the selection bias of {count_noun(tried, 'trial')}"
        lines.append(("", f"{format_score(corrected.value)} ({between}) {note}"))
    if found.selection is not None and found.ensemble is not None:
        members = ", ".join(_described(member) for member in found.selection.members)
        lines.append(("ensemble", f"{metric} {score(found.selection.score)} by {found.selection.method}: {members}"))
        corrected = found.corrected.get("ensemble")
        if corrected is not None:
            between = format_interval(corrected.low, corrected.high)
            lines.append(("", f"{format_score(corrected.value)} ({between}) without the selection bias"))
    if (best := _better_baseline(found)) is not None:
        lines.append(("baseline", f"{best.name}: {metric} {score(best.score)}, better than the best trial"))
    if len(found.objectives) > 1:
        lines.append(("pareto", f"{', '.join(one.name for one in found.pareto_front)} ({', '.join(found.objectives)})"))
    return lines


def _described(candidate: Candidate) -> str:
    """`trial 3 (gradient_boosting)`; a network has no addition."""
    members = (candidate.recipe or {}).get("members") or []
    return f"{candidate.name} ({', '.join(one['name'] for one in members)})" if members else candidate.name


def notes(result: TuningResult) -> list[str]:
    """Notes of the audit, what the time limit changed, and the reasons of failed trials."""
    shortened = [f"{result.best.name}: {note}" for note in result.best.notes]
    return [*result.audit.notes, *shortened, *(f"{attempt.name}: {attempt.reason}" for attempt in result.failed[:5])]
