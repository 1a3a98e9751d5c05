"""The commands `evaluate`, `cross-validate` and `compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import RenderableType

from polymodal.cli.inputs import all_tables
from polymodal.cli.options import (
    AdditionalData,
    Data,
    Folds,
    Json,
    ModelDir,
    OverwriteReports,
    RecipeFile,
    Root,
    Settings,
    Strict,
    Target,
)
from polymodal.cli.output import print_result, rows_table, scores_table, separated
from polymodal.core.formatting import format_interval, format_score, metric_name
from polymodal.core.terminal import labeled_lines, plain_text

if TYPE_CHECKING:
    from polymodal.evaluation.robustness import Robustness
    from polymodal.model.protocol import PredictsRows


def evaluate(
    model_dir: ModelDir,
    data: Data,
    robustness: Annotated[
        bool,
        typer.Option("--robustness", help="Score with each input removed, and with each input corrupted in steps."),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Folder for robustness.html and robustness.json. Default: the model directory."
        ),
    ] = None,
    overwrite: OverwriteReports = False,
    root: Root = None,
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """Score a model on labeled rows: metrics with intervals, and baselines."""
    from polymodal.applications.few_shot.loading import load_predictor

    if out is not None and not robustness:
        raise typer.BadParameter("--out is the folder of the robustness report; add --robustness", param_hint="--out")
    if overwrite and out is None:
        raise typer.BadParameter("--overwrite replaces files in --out; add --out", param_hint="--overwrite")
    if robustness:
        check_robustness_folder(out or model_dir, model_dir, data, overwrite=overwrite)
    model = load_predictor(model_dir)
    if robustness:
        _robustness(model, data, out or model_dir, root, strict, as_json)
        return
    scores = model.evaluate(data, root=root, strict=strict)
    print_result({"scores": scores}, [scores_table(scores)], as_json=as_json)


def check_robustness_folder(out: Path, model_dir: Path, data: str, *, overwrite: bool) -> None:
    """Check that the report may be written into `out`. In the directory of the model, an earlier report is replaced.

    Raises:
        OutputError: it may not.
    """
    from polymodal.checkpoint.output_file import check_reports, paths_in
    from polymodal.report.robustness import FILES

    if out.resolve() != model_dir.resolve():
        check_reports(out, FILES, overwrite=overwrite, inputs=paths_in(data))


def _robustness(model: PredictsRows, data: str, out: Path, root: Path | None, strict: bool, as_json: bool) -> None:
    """Measure the robustness, write the report, and print the scores with removed and with corrupted inputs."""
    from polymodal.core.errors import PolymodalError
    from polymodal.model.model import Model
    from polymodal.report.robustness import write_robustness

    if not isinstance(model, Model):
        raise PolymodalError("robustness needs one model; give the directory of a member of the ensemble")
    table = model.open(data, root, targets=True)
    found = model.robustness(table, strict=strict, progress=not as_json)
    write_robustness(out, found, table=table.name, rows=len(table))
    value = {"robustness": {name: one.model_dump(mode="json") for name, one in found.items()}, "out": str(out)}
    paths = labeled_lines([("report", str(out / "robustness.html"))])
    print_result(value, [*separated(_robustness_tables(found)), "", paths], as_json=as_json)


def _robustness_tables(found: dict[str, Robustness]) -> list[RenderableType]:
    """Two tables: the score without each input, and with each corrupted input."""
    removed: list[dict[str, Any]] = []
    corrupted: list[dict[str, Any]] = []
    for output, one in found.items():
        first = {"output": output} if len(found) > 1 else {}
        removed.append({**first, "without": "(nothing)", "score": format_score(one.value), "drop": ""})
        removed += [
            {**first, "without": name, "score": format_score(removal.value), "drop": format_score(removal.drop)}
            for name, removal in one.removed.items()
        ]
        for name, kinds in one.corrupted.items():
            for kind, curve in kinds.items():
                pairs = zip(one.strengths, curve.scores, strict=True)
                scores = {f"{strength:g}": format_score(value) for strength, value in pairs}
                row = {**first, "input": name, "corruption": kind.replace("_", " "), **scores}
                corrupted.append({**row, "area": format_score(curve.area)})
    return [rows_table(removed), *([rows_table(corrupted)] if corrupted else [])]


def cross_validate(
    data: Data,
    target: Target = None,
    additional_data: AdditionalData = None,
    folds: Folds = 5,
    recipe: RecipeFile = None,
    settings: Settings = None,
    root: Root = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for cross_validation.json.")] = None,
    overwrite: OverwriteReports = False,
    as_json: Json = False,
) -> None:
    """Train and score a model by k-fold cross-validation, grouped and stratified as `data.split` sets it."""
    from polymodal.workflows.cross_validation import cross_validate as run

    if overwrite and out is None:
        raise typer.BadParameter("there is no file to replace; give --out", param_hint="--overwrite")
    result = run(
        all_tables(data, additional_data),
        target,
        recipe=recipe,
        settings=settings,
        folds=folds,
        root=root,
        out=out,
        overwrite=overwrite,
        progress=not as_json,
    )
    print_result(result.to_dict(), [scores_table(result.scores)], as_json=as_json)


def compare(first: ModelDir, second: ModelDir, data: Data, root: Root = None, as_json: Json = False) -> None:
    """Compare two models on the same labeled rows with paired tests."""
    from polymodal.model.model import Model
    from polymodal.report.model_summary import ScoreRow, count_sentences
    from polymodal.workflows.model_comparison import compare as run

    found = run(Model.load(first), Model.load(second), data, root=root)
    rows = [
        {
            **({"output": output} if len(found) > 1 else {}),
            "metric": metric_name(metric),
            "first": format_score(result["a"]),
            "second": format_score(result["b"]),
            "difference": format_score(result["difference"]),
            "interval": format_interval(result["low"], result["high"]),
            "p": format_score(result["p_value"]),
        }
        for output, metrics in found.items()
        for metric, result in metrics.items()
    ]
    counts = {output: ScoreRow.counts_of(next(iter(metrics.values()))) for output, metrics in found.items() if metrics}
    print_result({"comparison": found}, [rows_table(rows), *map(plain_text, count_sentences(counts))], as_json=as_json)
