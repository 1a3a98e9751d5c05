"""The command `curate`: near-duplicates, mismatched pairs and wrong labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from polymodal.cli.inputs import load_single_model
from polymodal.cli.options import Folds, Json, OverwriteReports, Root, Strict
from polymodal.cli.output import print_note, print_result, rows_table, separated
from polymodal.core.terminal import labeled_lines


def curate(
    data: Annotated[str, typer.Argument(help="A table with the columns of the model's inputs.")],
    model_dir: Annotated[Path, typer.Option("--model", "-m", help="A model directory written by `fit` or `pretrain`.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for duplicates.jsonl, mismatches.jsonl and curation.html.")
    ],
    against: Annotated[
        str | None,
        typer.Option(help="A second table, such as the test rows; items in both tables are reported as leaks."),
    ] = None,
    find: Annotated[
        Literal["duplicates", "mismatches", "labels"] | None,
        typer.Option(
            help="What to look for. Default: duplicates, and mismatches if the model aligns inputs; without a network, "
            "wrong labels."
        ),
    ] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", help="Input to look for duplicates in; repeat for several. Default: all inputs."),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            min=-1,
            max=1,
            help="Cosine similarity from which items are near-duplicates. Default: estimated from the data.",
        ),
    ] = None,
    false_discovery_rate: Annotated[
        float, typer.Option(min=0, max=1, help="Accepted fraction of correct pairs among the listed ones.")
    ] = 0.1,
    folds: Folds = 5,
    overwrite: OverwriteReports = False,
    root: Root = None,
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """Find near-duplicates, mismatched pairs and wrong labels of a data set with a model."""
    from polymodal.applications.curation.curate import CurationOptions
    from polymodal.applications.curation.curate import curate as run

    model = load_single_model(model_dir, "curation needs one model; give the directory of a member of the ensemble")
    found = run(
        model,
        data,
        CurationOptions(
            find=None if find is None else [find],
            inputs=inputs,
            threshold=threshold,
            false_discovery_rate=false_discovery_rate,
            folds=folds,
            overwrite=overwrite,
        ),
        against=against,
        out=out,
        root=root,
        strict=strict,
        progress=not as_json,
    )
    duplicates: list[dict[str, Any]] = [
        {
            "input": name,
            "items": one.items,
            "near-duplicates": len(one.near),
            "exact duplicates": len(one.exact),
            **({"in both tables": len(one.leaks)} if against else {}),
            "threshold": round(one.threshold.similarity, 4),
        }
        for name, one in found.duplicates.items()
    ]
    mismatches: list[dict[str, Any]] = [
        {
            "inputs": " - ".join(pair),
            "pairs": len(one.rows),
            "mismatches": int(one.flagged.sum()),
            "AUC": one.auc,
        }
        for pair, one in found.mismatches.items()
    ]
    labels: list[dict[str, Any]] = [
        {"output": name, "labels": len(one.rows), "probably wrong": int(one.flagged.sum())}
        for name, one in found.labels.items()
    ]
    value = {
        "out": str(out),
        "duplicates": duplicates,
        "mismatches": mismatches,
        "labels": labels,
        "trained_on": found.trained_on,
    }
    tables = [rows_table(rows) for rows in (duplicates, mismatches, labels) if rows]
    files = [name for name in ("duplicates.jsonl", "mismatches.jsonl", "labels.jsonl") if (out / name).is_file()]
    paths = labeled_lines([("report", str(out / "curation.html")), *(("rows", str(out / name)) for name in files)])
    print_result(value, [*separated(tables), "", paths], as_json=as_json)
    if found.trained_on and mismatches and not as_json:
        print_note(
            "the model was trained on rows of this table and has learned their mismatches; use a model of other rows"
        )
