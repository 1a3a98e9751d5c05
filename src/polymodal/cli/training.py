"""The commands `fit`, `pretrain`, `plan` and `init`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer
from rich.console import RenderableType

from polymodal.cli.inputs import all_tables, as_seconds, single_or_list, training_settings
from polymodal.cli.options import (
    AdditionalData,
    Data,
    InitFrom,
    Json,
    ModelOut,
    Overwrite,
    OverwriteFile,
    PreparedRows,
    Quality,
    RecipeFile,
    Resume,
    Root,
    Settings,
    Strict,
    Target,
    Test,
    Validation,
)
from polymodal.cli.output import print_next, print_note, print_result, rows_table, shell_line
from polymodal.distributed.launch import is_first_process

if TYPE_CHECKING:
    from polymodal.model.model import Model
    from polymodal.model.run_record import ParameterCounts

#: The most columns that the result of a training names as left out.
MAX_LEFT_OUT = 5


def fit(
    data: Data,
    out: ModelOut,
    target: Target = None,
    quality: Quality = None,
    time_limit: Annotated[
        str | None, typer.Option("--time-limit", help="Time limit of the run: 90s, 10m or 2h. Default: none.")
    ] = None,
    additional_data: AdditionalData = None,
    recipe: RecipeFile = None,
    init_from: InitFrom = None,
    settings: Settings = None,
    validation: Validation = None,
    test: Test = None,
    unlabeled: Annotated[str | None, typer.Option(help="Table of unlabeled rows, for pseudo-labels.")] = None,
    prepared: PreparedRows = None,
    root: Root = None,
    strict: Strict = False,
    resume: Resume = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Train a model on a table, score it, and write a model directory with a report."""
    from polymodal.workflows.fit import fit as run

    model = run(
        all_tables(data, additional_data),
        target,
        quality=cast("Literal['fast', 'balanced', 'best'] | None", quality),
        time_limit=None if time_limit is None else as_seconds(time_limit),
        recipe=recipe,
        settings=training_settings(settings, strict),
        validation=single_or_list(validation),
        test=single_or_list(test),
        init_from=init_from,
        unlabeled=unlabeled,
        prepared=prepared,
        root=root,
        out=out,
        resume=resume,
        overwrite=overwrite,
        progress=not as_json,
    )
    if is_first_process():
        print_run(model, out, as_json)


def pretrain(
    data: Annotated[str, typer.Argument(help="A table as for `fit`; it needs no target.")],
    out: ModelOut,
    objective: Annotated[
        list[str] | None,
        typer.Option("--objective", help="Name of an objective (see `polymodal list objective`); repeat for several."),
    ] = None,
    recipe: RecipeFile = None,
    init_from: InitFrom = None,
    settings: Settings = None,
    additional_data: AdditionalData = None,
    validation: Validation = None,
    test: Test = None,
    prepared: PreparedRows = None,
    root: Root = None,
    strict: Strict = False,
    resume: Resume = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Pretrain a model without targets, by contrastive, masked or other objectives. `fit --init-from` fine-tunes it."""
    from polymodal.workflows.fit import pretrain as run

    model = run(
        all_tables(data, additional_data),
        objective,
        recipe=recipe,
        settings=training_settings(settings, strict),
        validation=single_or_list(validation),
        test=single_or_list(test),
        init_from=init_from,
        prepared=prepared,
        root=root,
        out=out,
        resume=resume,
        overwrite=overwrite,
        progress=not as_json,
    )
    if is_first_process():
        print_run(model, out, as_json)


def plan(
    data: Data,
    target: Target = None,
    quality: Quality = None,
    additional_data: AdditionalData = None,
    recipe: RecipeFile = None,
    settings: Settings = None,
    root: Root = None,
    as_yaml: Annotated[
        bool, typer.Option("--yaml", help="Print the complete recipe as YAML and nothing else.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show what `fit` would do: the role of every column, the size of the model, and the cost of the training."""
    from polymodal.experiments.estimate import estimate
    from polymodal.workflows.fit import plan_fit

    planned, parts = plan_fit(
        all_tables(data, additional_data),
        target,
        quality=cast("Literal['fast', 'balanced', 'best'] | None", quality),
        recipe=recipe,
        settings=settings,
        root=root,
    )
    if as_yaml:
        sys.stdout.write(planned.recipe.to_yaml())
        return
    cost = estimate(planned, parts)
    roles = [vars(role) for role in planned.roles]
    value = {"roles": roles, "estimate": cost.to_dict(), "recipe": planned.recipe.to_dict()}
    shown: list[RenderableType] = [
        rows_table([{"column": r["column"], "role": r["role"], "kind": r["kind"], "why": r["reason"]} for r in roles]),
        cost.text(),
    ]
    tables = [word for table in additional_data or [] for word in ("--additional-data", table)]
    given = [data, *tables, *(word for name in target or [] for word in ("--target", name))]
    given += ["--quality", quality] if quality else []
    given += [*(["--recipe", str(recipe)] if recipe else []), *(["--root", str(root)] if root else [])]
    given += [word for setting in settings or [] for word in ("--set", setting)]
    print_result(
        value, shown, as_json=as_json, then=[["fit", *given, "--out", "NEW_FOLDER"], ["plan", *given, "--yaml"]]
    )


def init(
    data: Data,
    target: Target = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File to write, such as recipe.yaml.")] = None,
    quality: Quality = None,
    additional_data: AdditionalData = None,
    root: Root = None,
    overwrite: OverwriteFile = False,
    as_json: Json = False,
) -> None:
    """Write a short recipe to start from: the inferred inputs and outputs, with the reasons as comments."""
    from polymodal.cli.output import open_text, output_file
    from polymodal.experiments.starting_recipe import starting_recipe
    from polymodal.workflows.fit import plan_fit

    file = output_file(out, overwrite, [data, *(additional_data or [])])
    planned, _ = plan_fit(
        all_tables(data, additional_data),
        target,
        quality=cast("Literal['fast', 'balanced', 'best'] | None", quality),
        root=root,
    )
    tables = [word for table in additional_data or [] for word in ("--additional-data", table)]
    name = "RECIPE" if out is None else str(out)
    words = ["fit", data, *tables, "--recipe", name, *(["--root", str(root)] if root else []), "--out", "NEW_FOLDER"]
    text = starting_recipe(planned, f"polymodal {shell_line(words)}")
    if file is not None:
        with open_text(file) as stream:
            stream.write(text)
    elif not as_json:
        sys.stdout.write(text)
        return
    print_result({"out": None if out is None else str(out), "recipe": text}, [], as_json=as_json, then=[words])


def print_run(model: Model, out: Path, as_json: bool, then: Sequence[Sequence[str]] = ()) -> None:
    """Print the result of a training: scores, time, paths, notes, and the commands to run next."""
    from polymodal.core.formatting import format_duration
    from polymodal.core.terminal import labeled_lines
    from polymodal.report.leaderboard import leaderboard_tables
    from polymodal.report.score_table import model_score_table

    run, seconds, errors = model.run, model.run.seconds, model.run.cell_errors
    value = {"out": str(out), "metrics": model.metrics, "seconds": vars(seconds), "notices": run.notices}
    value["cell_errors"] = vars(errors)
    left_out = [role for role in run.roles if role.is_left_out]
    value["left_out"] = {role.column: role.reason for role in left_out}
    shown: list[RenderableType] = [
        model_score_table(model),
        "",
        *leaderboard_tables(model),
        labeled_lines(
            [
                ("trained", f"{_trained_parts(model)} in {format_duration(seconds.training)}"),
                ("total", f"{format_duration(seconds.total)} with preparation and scoring"),
                ("model", str(out)),
                ("report", str(out / "report.html")),
                *(("left out", f"{role.column}: {role.reason}") for role in left_out[:MAX_LEFT_OUT]),
                *([("", f"and {len(left_out) - MAX_LEFT_OUT} more columns")] if len(left_out) > MAX_LEFT_OUT else []),
            ]
        ),
    ]
    notes = _notes(model, out)
    print_result(value, ["", *shown], as_json=as_json)
    if not as_json:
        if notes:
            sys.stderr.write("\n")
        for text in notes:
            print_note(text)
        print_next(then or _next_steps(model, out))


def _trained_parts(model: Model) -> str:
    """What was trained: members, or the parameters of a network."""
    from polymodal.core.formatting import count_noun

    members = len(model.run.members)
    return count_noun(members, "member") if members else f"{_trained(model.run.parameters)} parameters"


def _notes(model: Model, out: Path) -> list[str]:
    """Shared items, notices of the training, and cells that could not be used in columns without a warning of their
    own."""
    from polymodal.core.formatting import count_noun, join_words, split_name

    notes, errors = [], model.run.cell_errors
    for shared in model.run.shared_items:
        if "train" in shared.between:
            splits = join_words([split_name(name) for name in shared.between])
            items, rows = count_noun(shared.items, "item"), count_noun(shared.rows, "row")
            verb = "is" if shared.items == 1 else "are"
            notes.append(f"input {shared.input!r}: {items} {verb} in both the {splits} rows ({rows})")
    notes += model.run.notices
    few = {column: count for column, count in errors.by_column.items() if column not in errors.bad_columns}
    if few:
        by_column = ", ".join(f"{column}: {count}" for column, count in few.items())
        cells = count_noun(sum(few.values()), "cell")
        notes.append(f"{cells} could not be used ({by_column}); see {out / 'cell_errors.jsonl'}")
    return notes


def _next_steps(model: Model, out: Path) -> list[list[str]]:
    """The commands that use a trained model."""
    if model.recipe.outputs:
        return [
            ["predict", str(out), "NEW_ROWS", "--out", "predictions.csv"],
            ["evaluate", str(out), "LABELED_ROWS", "--robustness"],
        ]
    return [
        ["fit", "TABLE", "--target", "COLUMN", "--init-from", str(out), "--out", "NEW_FOLDER"],
        ["index", "TABLE", "--model", str(out), "--out", "INDEX_FOLDER"],
    ]


def _trained(counts: ParameterCounts) -> str:
    all_, some = counts.total, counts.trainable
    return f"{all_:,}" if some == all_ else f"{some:,} of {all_:,}"
