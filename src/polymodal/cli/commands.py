"""The commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import RenderableType

from polymodal.cli import (
    components,
    compress,
    curate,
    few_shot,
    generate,
    index,
    pretrain,
    sharing,
    suggest,
    transcribe,
    tune,
    weights,
    zero_shot,
)
from polymodal.cli.finished import aside, finished, tell_faults
from polymodal.cli.output import emit, grid, scores_grid
from polymodal.cli.several import More, Test, Valid, one_or_more, with_more

app = typer.Typer(
    help="Turn a table of mixed media into a multimodal model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Combine = Literal["average", "weighted", "vote", "product", "stack"]
Data = Annotated[
    str,
    typer.Argument(
        help="CSV, TSV, JSON lines, Parquet or Arrow file, or a folder of images, sounds or clips in class folders."
    ),
]
ModelDir = Annotated[Path, typer.Argument(help="A model directory, as `fit` leaves it.")]
Target = Annotated[list[str] | None, typer.Option("--target", "-t", help="Column to predict; repeat for several.")]
RecipeFile = Annotated[
    Path | None, typer.Option("--recipe", "-r", help="Recipe file, YAML or JSON, or the name of a shipped one.")
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", "-s", help="KEY=VALUE on top of the recipe, as training.epochs=5.")
]
Root = Annotated[Path | None, typer.Option(help="Folder that media paths start from; default: that of the table.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output and nothing else.")]
Strict = Annotated[bool, typer.Option(help="Refuse the data at the first cell that cannot be used.")]
From = Annotated[
    Path | None, typer.Option("--from", help="Model directory to go on from: its inputs, their weights and all else.")
]


@app.command()
def fit(
    data: Data,
    out: Annotated[Path, typer.Option("--out", "-o", help="Model directory to write.")],
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
    resume: Annotated[bool, typer.Option(help="Go on from the checkpoint of a killed run in --out.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace the model directory --out.")] = False,
    as_json: Json = False,
) -> None:
    """Train a model on a table, score it, and write a model directory with a report."""
    from polymodal.workflows.fit import fit as run

    model = run(
        with_more(data, more),
        target,
        recipe=recipe,
        settings=[*(settings or []), *(["data.strict=true"] if strict else [])],
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


@app.command()
def predict(
    model_dir: ModelDir,
    data: Annotated[str, typer.Argument(help='A table, or a row as JSON: \'{"image": "a.png", "question": "..."}\'.')],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write: .csv, .tsv, .jsonl, .parquet or .arrow.")
    ] = None,
    probabilities: Annotated[bool, typer.Option(help="Also write the probability of every class.")] = False,
    root: Root = None,
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """Predict every row of a table, in the order of the rows."""
    from polymodal.data.table.cell_errors import Faults
    from polymodal.model.loading import load_predictor
    from polymodal.model.prediction_files import collect, write_predictions

    model = load_predictor(model_dir)
    inline = data.lstrip().startswith(("{", "["))
    table = model.open(data, root or (Path.cwd() if inline else None))
    faults = Faults(strict)
    if out is None:
        rows = collect(model, table, faults, probabilities=probabilities)
        value: dict[str, Any] = {"rows": len(rows), "predictions": rows}
        shown: list[RenderableType] = [grid(rows)] if rows else []
    else:
        count = write_predictions(model, table, faults, out, probabilities=probabilities)
        value, shown = {"rows": count, "out": str(out)}, [f"{count} predictions in {out}"]
    value["faults"] = [vars(fault) for fault in faults.found]
    emit(value, shown, as_json=as_json)
    tell_faults([f"row {f.row}, column {f.column}: {f.reason}" for f in faults.found], as_json)


@app.command()
def evaluate(
    model_dir: ModelDir,
    data: Data,
    robustness: Annotated[
        bool, typer.Option("--robustness", help="Also score with each input removed, and damaged in growing steps.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for robustness.html and .json; default: the model's.")
    ] = None,
    root: Root = None,
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """Score a model on rows whose targets are known, with intervals and floors."""
    from polymodal.model.loading import load_predictor

    if out is not None and not robustness:
        raise typer.BadParameter("--out is where --robustness writes its page; give both", param_hint="--out")
    model = load_predictor(model_dir)
    if robustness:
        _robustness(model, data, out or model_dir, root, strict, as_json)
        return
    scores = model.evaluate(data, root=root, strict=strict)
    emit({"scores": scores}, [scores_grid(scores)], as_json=as_json)


def _robustness(model: Any, data: str, out: Path, root: Path | None, strict: bool, as_json: bool) -> None:
    """Measure, write the page, and show what removing and damaging inputs costs."""
    from polymodal.cli.robustness import grids
    from polymodal.core.errors import PolymodalError
    from polymodal.model.model import Model
    from polymodal.report.robustness import write_robustness

    if not isinstance(model, Model):
        raise PolymodalError("robustness is measured for one model; name the directory of a member of the ensemble")
    table = model.open(data, root, targets=True)
    found = model.robustness(table, strict=strict, progress=not as_json)
    write_robustness(out, found, table=table.name, rows=len(table))
    value = {"robustness": {name: one.model_dump(mode="json") for name, one in found.items()}, "out": str(out)}
    emit(value, [*grids(found), f"curves in {out / 'robustness.html'}"], as_json=as_json)


@app.command()
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


@app.command()
def recipes(as_json: Json = False) -> None:
    """List the recipes that come with the package; `fit --recipe NAME` takes one."""
    from polymodal.recipe.shipped import shipped

    rows = [{"name": name, "what": what} for name, what in shipped().items()]
    emit({"recipes": rows}, [grid(rows)], as_json=as_json)


@app.command("cross-validate")
def cross_validate(
    data: Data,
    target: Target = None,
    more: More = None,
    folds: Annotated[int, typer.Option(min=2, help="Number of folds.")] = 5,
    recipe: RecipeFile = None,
    settings: Settings = None,
    root: Root = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for cross_validation.json.")] = None,
    as_json: Json = False,
) -> None:
    """Train and score by k folds, grouped and stratified as `data.split` says."""
    from polymodal.workflows.cross_validation import cross_validate as run

    table, shown = with_more(data, more), not as_json
    result = run(table, target, recipe=recipe, settings=settings, folds=folds, root=root, out=out, progress=shown)
    emit(result.to_dict(), [scores_grid(result.scores)], as_json=as_json)


@app.command()
def compare(first: ModelDir, second: ModelDir, data: Data, root: Root = None, as_json: Json = False) -> None:
    """Compare two models on the same rows by paired tests."""
    from polymodal.model.model import Model
    from polymodal.workflows.model_comparison import compare as run

    found = run(Model.load(first), Model.load(second), data, root=root)
    rows = [
        {"output": output, "metric": metric, **one}
        for output, metrics in found.items()
        for metric, one in metrics.items()
    ]
    emit({"comparison": found}, [grid(rows)], as_json=as_json)


app.command("curate")(curate.curate)
app.command("few-shot")(few_shot.few_shot)
app.command("generate")(generate.generate)
app.command("index")(index.index)
app.command("list")(components.list_components)
app.command("pretrain")(pretrain.pretrain)
app.command("sharing")(sharing.sharing)
app.command("suggest")(suggest.suggest)
app.command("search")(index.search)
app.command("transcribe")(transcribe.transcribe)
app.command("tune")(tune.tune)
app.command("zero-shot")(zero_shot.zero_shot)
app.command("unindex")(index.unindex)


@app.command()
def ensemble(
    members: Annotated[list[Path], typer.Argument(help="Model directories.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Directory to write.")],
    method: Annotated[Combine, typer.Option(help="How their decisions become one.")] = "average",
    data: Annotated[
        str | None, typer.Option(help="Held-out rows on which weighted, product and stack are fitted.")
    ] = None,
    root: Root = None,
    as_json: Json = False,
) -> None:
    """Combine separately trained models into one."""
    from polymodal.model.ensemble import ensemble as run

    run(list(members), method=method, data=data, root=root).save(out)
    text = f"{len(members)} models combined by {method} in {out}"
    emit({"out": str(out), "members": [str(member) for member in members], "method": method}, [text], as_json=as_json)


app.command("compress")(compress.compress)
app.add_typer(weights.app, name="weights")


@app.command()
def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Delete all decoded media that no process has open.")] = False,
    keep: Annotated[
        float | None, typer.Option(min=0, metavar="GIB", help="Delete the least recently used down to this size.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show or empty the store of decoded media, which every run shares."""
    from polymodal.core.paths import media_folder
    from polymodal.data.store.eviction import VARIABLE, evict, media_budget, usage

    folder, budget = media_folder(), media_budget()
    if clear or keep is not None:
        evict(folder, 0 if clear else int((keep or 0.0) * 2**30))
    kinds = usage(folder)
    size = sum(kind.size for kind in kinds.values())
    value = {"folder": str(folder), "budget": budget, "size": size}
    value["kinds"] = {name: vars(kind) for name, kind in kinds.items()}
    shown: list[RenderableType] = [f"{_gib(size)} of decoded media of {_gib(budget)} ({VARIABLE}) in {folder}"]
    if kinds:
        shown.append(grid([{"kind": name, "items": k.items, "size": _gib(k.size)} for name, k in kinds.items()]))
    emit(value, shown, as_json=as_json)
    if clear and size:
        aside(f"{_gib(size)} stay: a process has them open, or the system has no file locks", as_json)


@app.command()
def schema(as_json: Json = False) -> None:
    """Print the JSON schema of recipes."""
    from polymodal.recipe.recipe import Recipe

    emit(Recipe.model_json_schema(), [], as_json=True)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Model directory to write.")] = Path("runs/demo"),
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Train on easy-VQA (image + question -> answer), score, and leave a model directory."""
    from polymodal.datasets.easy_vqa import run_demo

    finished(run_demo(out, settings, progress=not as_json), out, as_json)


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB" if size >= 2**27 else f"{size / 2**20:.1f} MiB"
