"""The command that looks for near-duplicates and mismatched pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from polymodal.cli.inputs import load_single_model
from polymodal.cli.options import Json, Root, Strict
from polymodal.cli.output import print_result, rows_table, print_note


def curate(
    data: Annotated[str, typer.Argument(help="A table with the columns of the model's inputs.")],
    model_dir: Annotated[Path, typer.Option("--model", "-m", help="A model directory, as `fit` leaves it.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for duplicates.jsonl, mismatches.jsonl, curation.html.")
    ],
    against: Annotated[
        str | None, typer.Option(help="A second table (test rows); what is in both is named as a leak.")
    ] = None,
    find: Annotated[
        Literal["duplicates", "mismatches"] | None,
        typer.Option(help="Look for one of them; default: duplicates, and mismatches where inputs are aligned."),
    ] = None,
    inputs: Annotated[
        list[str] | None, typer.Option("--input", help="Whose duplicates; repeat for several; default: of all inputs.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(min=-1, max=1, help="Cosine of near-duplicates; default: chosen from the data.")
    ] = None,
    rate: Annotated[float, typer.Option(min=0, max=1, help="Accepted share of right pairs among the listed.")] = 0.1,
    root: Root = None,
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """Find near-duplicates and mismatched pairs of a data set with a model's embeddings."""
    from polymodal.applications.curation.curate import CurationOptions
    from polymodal.applications.curation.curate import curate as run

    model = load_single_model(model_dir, "one model embeds the rows; name the directory of a member of the ensemble")
    found = run(
        model,
        data,
        CurationOptions(find=None if find is None else [find], inputs=inputs, threshold=threshold, rate=rate),
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
            "nearly equal": len(one.near),
            "repeated": len(one.exact),
            **({"in both tables": len(one.leaks)} if against else {}),
            "from similarity": round(one.threshold.similarity, 4),
        }
        for name, one in found.duplicates.items()
    ]
    mismatches: list[dict[str, Any]] = [
        {
            "pair": " - ".join(pair),
            "judged": len(one.rows),
            "mismatches": int(one.listed.sum()),
            "right above wrong": one.separation,
        }
        for pair, one in found.mismatches.items()
    ]
    value = {"out": str(out), "duplicates": duplicates, "mismatches": mismatches, "trained_on": found.seen}
    tables = [rows_table(rows) for rows in (duplicates, mismatches) if rows]
    print_result(value, [*tables, f"page {out / 'curation.html'}"], as_json=as_json)
    if found.seen and mismatches and not as_json:
        print_note("the model was trained on rows of this table, so it hides mismatches there; judge rows it has not seen")
