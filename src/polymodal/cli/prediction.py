"""The commands `predict`, `generate` and `transcribe`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import RenderableType

from polymodal.cli.image_generation import generates_images, write_images
from polymodal.cli.inputs import load_single_model, open_rows
from polymodal.cli.options import Json, ModelDir, OverwriteFile, Root, Strict, TableOrRow, TextOutput
from polymodal.cli.output import output_file, print_cell_errors, print_result, rows_table, write_jsonl
from polymodal.cli.quick_start import skip_pandas
from polymodal.cli.sharding import ArrayShards, EngineOption, Sharding, ShardRows, Workers
from polymodal.core.formatting import count_noun, escape_controls

if TYPE_CHECKING:
    from polymodal.uncertainty.abstention import Selective
    from polymodal.uncertainty.conformal_sets import Conformal

#: Choices of `polymodal.uncertainty.conformal_sets`.
Score = Literal["lac", "aps"]
Within = Literal["inputs", "classes", "all"]

SINGLE_MODEL_ONLY = "text generation needs one model; give the directory of a member of the ensemble"


def predict(
    model_dir: ModelDir,
    data: TableOrRow,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="File to write: .csv, .tsv, .jsonl, .parquet or .arrow; of shards, a folder or address."
        ),
    ] = None,
    overwrite: OverwriteFile = False,
    engine: EngineOption = None,
    workers: Workers = None,
    shards: ArrayShards = None,
    shard_rows: ShardRows = None,
    probabilities: Annotated[bool, typer.Option(help="Add the probability of each class.")] = False,
    coverage: Annotated[
        float | None,
        typer.Option(help="Add sets of classes, or intervals, that hold the truth in this fraction of the rows: 0.9."),
    ] = None,
    score: Annotated[
        Score | None,
        typer.Option(help="Of sets: lac, the smallest (default), or aps, larger sets for harder rows."),
    ] = None,
    within: Annotated[
        Within | None,
        typer.Option(help="Where the coverage holds: inputs, rows with the same inputs (default); classes; or all."),
    ] = None,
    max_risk: Annotated[
        float | None,
        typer.Option(help="Leave out the answers that are not sure enough, so that this fraction is wrong at most."),
    ] = None,
    escape_formulas: Annotated[
        bool,
        typer.Option(
            "--escape-formulas", help="Write an apostrophe before texts that a spreadsheet program would compute."
        ),
    ] = False,
    root: Root = None,
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """Predict the targets of each row of a table."""
    skip_pandas()
    options = answer_options(coverage, score, within, max_risk)
    if any(given is not None for given in (engine, workers, shards, shard_rows)):
        if options is not None:
            raise typer.BadParameter("shards hold plain predictions", param_hint="--coverage, --max-risk")
        if escape_formulas:
            raise typer.BadParameter("shards are Parquet files, without formulas", param_hint="--escape-formulas")
        sharding = Sharding(engine, workers, shards, shard_rows)
        _predict_shards(
            model_dir,
            data,
            out,
            sharding,
            as_json,
            probabilities=probabilities,
            root=root,
            strict=strict,
            overwrite=overwrite,
        )
        return
    from polymodal.applications.few_shot.loading import load_predictor
    from polymodal.data.table.cell_errors import CellErrors
    from polymodal.model.prediction_files import collect, write_predictions

    if escape_formulas and out is None:
        raise typer.BadParameter("formulas are computed in files only; give --out", param_hint="--escape-formulas")
    file = output_file(out, overwrite, [data])
    model = load_predictor(model_dir)
    table = open_rows(model, data, root)
    errors = CellErrors(strict)
    if file is None:
        rows = collect(model, table, errors, probabilities=probabilities, options=options)
        value: dict[str, Any] = {"rows": len(rows), "predictions": rows}
        shown: list[RenderableType] = [rows_table(rows)] if rows else []
    else:
        count = write_predictions(
            model,
            table,
            errors,
            file,
            probabilities=probabilities,
            escape_formulas=escape_formulas,
            options=options,
        )
        value, shown = {"rows": count, "out": str(out)}, [f"{count_noun(count, 'prediction')} in {out}"]
    value["cell_errors"] = [vars(error) for error in errors.errors]
    print_result(value, shown, as_json=as_json)
    print_cell_errors(errors.errors, as_json=as_json)


def answer_options(
    coverage: float | None, score: Score | None, within: Within | None, max_risk: float | None
) -> Conformal | Selective | None:
    """The options of `Model.predict` as one object; None for plain predictions."""
    if (coverage, score, within, max_risk) == (None, None, None, None):
        return None
    from polymodal.model.measures_uncertainty import uncertainty_options

    return uncertainty_options(coverage, score, within, max_risk)


def _predict_shards(
    model_dir: Path, data: str, out: Path | None, sharding: Sharding, as_json: bool, **options: Any
) -> None:
    from polymodal.applications.batch_prediction.predict_shards import predict_shards

    if out is None:
        raise typer.BadParameter("shards are written into a folder; give --out", param_hint="--out")
    if data.lstrip().startswith(("{", "[")):
        raise typer.BadParameter("rows as JSON have no shards; give a file or an address", param_hint="DATA")
    done = predict_shards(model_dir, data, out, **sharding.arguments(), **options, progress=not as_json)
    shown = [f"{count_noun(done.computed, 'shard')} of {done.shards} computed in {done.out}"]
    if done.complete:
        shown.append(f"all shards are there: {count_noun(done.rows, 'prediction')}")
        if done.cell_errors:
            shown.append(f"{count_noun(done.cell_errors, 'cell')} could not be used: cell_errors.jsonl lists them")
    print_result(asdict(done), list(shown), as_json=as_json)


def generate(
    model_dir: ModelDir,
    data: TableOrRow,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            "-s",
            help="Generation setting, such as num_beams=4; json_schema may be a file. Repeat for several.",
        ),
    ] = None,
    samples: Annotated[
        int | None, typer.Option(min=1, help="Number of texts or images per row; several texts need a temperature.")
    ] = None,
    output: TextOutput = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="File to write: .jsonl, one line with the texts or images of each row; .png, a grid of images.",
        ),
    ] = None,
    overwrite: OverwriteFile = False,
    stream: Annotated[bool, typer.Option("--stream", help="Print the text of one row while it is generated.")] = False,
    root: Root = None,
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """Generate texts for each row of a table, with their log-probabilities, or images."""
    skip_pandas()
    from polymodal.data.table.cell_errors import CellErrors

    if stream and (out is not None or as_json):
        raise typer.BadParameter(
            "a stream is printed while it is generated; leave out --out and --json", param_hint="--stream"
        )
    schemas = [one.partition("=")[2] for one in settings or []]
    file = output_file(out, overwrite, [data, *schemas], what="texts or images", endings=(".jsonl", ".png"))
    changes = generation_options(settings or [])
    if samples is not None:
        changes["num_return_sequences"] = samples
    model = load_single_model(model_dir, SINGLE_MODEL_ONLY)
    table = open_rows(model, data, root)
    if generates_images(model, output):
        if stream:
            raise typer.BadParameter("images are not streamed; leave out --stream", param_hint="--stream")
        write_images(model, table, CellErrors(strict), output, changes, file=file, as_json=as_json)
        return
    if file is not None and file.path.suffix == ".png":
        raise typer.BadParameter("texts are written as .jsonl, not as '.png'", param_hint="--out")
    if stream:
        for chunk in model.stream_tokens(table, output=output, **changes):
            sys.stdout.write(escape_controls(chunk, "\n\t"))
            sys.stdout.flush()
        sys.stdout.write("\n")
        return
    errors = CellErrors(strict)
    found = _records(model.stream_texts(table, errors, output=output, **changes))
    if file is None:
        rows = list(found)
        value: dict[str, Any] = {"rows": len(rows), "texts": rows}
        lines = [{"row": one["row"], **text} for one in rows for text in one["texts"]]
        shown: list[Any] = [rows_table(lines)] if lines else []
    else:
        value = {"rows": write_jsonl(found, file), "out": str(out)}
        shown = [f"texts of {count_noun(value['rows'], 'row')} in {out}"]
    value["cell_errors"] = [vars(error) for error in errors.errors]
    print_result(value, shown, as_json=as_json)
    print_cell_errors(errors.errors, as_json=as_json)


def transcribe(
    model_dir: ModelDir,
    data: Annotated[str, typer.Argument(help='A table, or a row as JSON: \'{"audio": "talk.wav"}\'.')],
    chunk_seconds: Annotated[
        float | None,
        typer.Option(help="Longest segment to transcribe at once, in seconds. Default: 28, or the limit of the model."),
    ] = None,
    input: Annotated[str | None, typer.Option(help="The audio input, if the model has several.")] = None,
    output: TextOutput = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", help="Generation setting, such as num_beams=4; repeat for several."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write, .jsonl: one line with the segments of each row.")
    ] = None,
    overwrite: OverwriteFile = False,
    root: Root = None,
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """Transcribe audio of any length, also that of videos, in segments with times."""
    skip_pandas()
    from polymodal.data.table.cell_errors import CellErrors
    from polymodal.model.text_generation import text_output
    from polymodal.model.transcription import transcribe as run

    file = output_file(out, overwrite, [data], what="segments", endings=(".jsonl",))
    model = load_single_model(model_dir, SINGLE_MODEL_ONLY)
    table = open_rows(model, data, root)
    errors = CellErrors(strict)
    changes = generation_options(settings or [])
    text_output(model.preparation, output)
    found = run(model.predictor, table, errors, input=input, output=output, chunk_seconds=chunk_seconds, **changes)
    rows = [{"row": row, "segments": [asdict(segment) for segment in segments]} for row, segments in enumerate(found)]
    value: dict[str, Any] = {"rows": len(rows)}
    if file is None:
        value["transcripts"] = rows
        lines = [
            {"row": row, "start": f"{one.start:.1f}", "end": f"{one.end:.1f}", "text": one.text}
            for row, segments in enumerate(found)
            for one in segments
        ]
        shown: list[Any] = [rows_table(lines)] if lines else []
    else:
        write_jsonl(iter(rows), file)
        value["out"] = str(out)
        shown = [f"transcripts of {count_noun(len(rows), 'row')} in {out}"]
    value["cell_errors"] = [vars(error) for error in errors.errors]
    print_result(value, shown, as_json=as_json)
    print_cell_errors(errors.errors, as_json=as_json)


def generation_options(settings: list[str]) -> dict[str, Any]:
    """Options of `GenerationConfig` from KEY=VALUE: a regular expression as text, all others as YAML.

    Raises:
        RecipeError: a setting has no `=`, or its value or the file of a schema cannot be read.
    """
    from polymodal.core.errors import RecipeError
    from polymodal.core.yaml_json import read_json
    from polymodal.recipe.overrides import apply_overrides

    regex = [one.partition("=")[2] for one in settings if one.partition("=")[0].strip() == "regex"]
    found = apply_overrides({}, [one for one in settings if one.partition("=")[0].strip() != "regex"])
    if len(set(regex)) > 1:
        raise RecipeError("regex", f"it is set twice, to {regex[0]!r} and to {regex[1]!r}; remove one")
    if regex:
        found["regex"] = regex[0]
    schema = found.get("json_schema")
    if isinstance(schema, str):
        try:
            found["json_schema"] = read_json(Path(schema).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RecipeError("json_schema", f"the file {schema!r} cannot be read: {error}") from None
    return found


def _records(blocks: Iterator[list[list[Any]]]) -> Iterator[dict[str, Any]]:
    """A JSON-ready record of each row, with its number and texts."""
    number = 0
    for block in blocks:
        for texts in block:
            shown = [
                {"text": t.text, "log_probability": t.log_probability, "finish_reason": t.finish_reason} for t in texts
            ]
            yield {"row": number, "texts": shown}
            number += 1
