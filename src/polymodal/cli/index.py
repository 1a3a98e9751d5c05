"""The commands that embed tables into a search index, search it, and delete rows from it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from polymodal.cli.options import Json, Overwrite, Root, Strict
from polymodal.cli.output import print_note, print_result, rows_table
from polymodal.core.formatting import count_noun

IndexDir = Annotated[Path, typer.Argument(help="An index written by `polymodal index`.")]
ModelOfIndex = Annotated[
    Path | None,
    typer.Option(
        "--model", "-m", help="Model directory that embeds the rows. For an existing index only if the model moved."
    ),
]
#: Rows of the index used as queries to measure the recall, and results per query.
SAMPLE, COUNT = 200, 10


def index(
    data: Annotated[str, typer.Argument(help="The rows: a table or a media folder, as for `fit`.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the index: to write, or with --add to extend.")],
    model: ModelOfIndex = None,
    add: Annotated[
        bool, typer.Option("--add", help="Add the rows to the index --out, embedded in the same way.")
    ] = False,
    input: Annotated[
        str | None, typer.Option(help="Input to embed. Default: the whole row, or the only input in the table.")
    ] = None,
    dim: Annotated[
        int | None, typer.Option(min=1, help="Keep only this many leading dimensions of each embedding.")
    ] = None,
    metadata: Annotated[
        list[str] | None,
        typer.Option(
            help="Column to store with each row, to show and filter by; repeat for several. Default: all without media."
        ),
    ] = None,
    approximate: Annotated[
        bool | None,
        typer.Option(
            "--approximate/--exact",
            help="Approximate search (HNSW graph), or exact search. Default: by the number of rows.",
        ),
    ] = None,
    float16: Annotated[bool, typer.Option("--float16", help="Store vectors as float16.")] = False,
    overwrite: Overwrite = False,
    root: Root = None,
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """Embed the rows of a table and write a search index for `polymodal search`."""
    from polymodal.applications.search import Index
    from polymodal.applications.search.table import IndexOptions, add_table, index_table

    if add:
        given = {"--input": input, "--dim": dim, "--metadata": metadata, "--approximate/--exact": approximate}
        given |= {"--float16": float16 or None, "--overwrite": overwrite or None}
        fixed = [name for name, value in given.items() if value is not None]
        if fixed:
            raise typer.BadParameter(
                "the settings of an index are fixed; leave this one out with --add", param_hint=fixed[0]
            )
        found = Index.open(out)
        ids, missing = add_table(found, data, model=model, root=root, strict=strict)
        value: dict[str, Any] = {"out": str(out), "added": int((ids >= 0).sum()), "rows": len(found)}
        shown = [f"{count_noun(value['added'], 'row')} added to {out}, which now has {len(found):,}"]
    else:
        if model is None:
            raise typer.BadParameter("give the model that embeds the rows", param_hint="--model")
        found, missing = index_table(
            data,
            model,
            out,
            IndexOptions(
                input=input,
                dim=dim,
                metadata=metadata,
                method="auto" if approximate is None else "approximate" if approximate else "exact",
                dtype="float16" if float16 else "float32",
            ),
            root=root,
            strict=strict,
            overwrite=overwrite,
        )
        value = {"out": str(out), "rows": len(found)}
        shown = [f"{count_noun(len(found), 'row')} with {found.dim}-dimensional vectors in {out}"]
    assert found.manifest.source is not None
    value |= {"input": found.manifest.source.input, "dim": found.dim, "columns": found.columns}
    value |= {"approximate": found.is_approximate, "missing": missing.tolist()}
    if found.is_approximate and len(found) > 1:
        sample = min(SAMPLE, len(found))
        value[f"recall@{COUNT}"] = found.recall(num_queries=sample, top_k=COUNT)
        shown.append(
            f"recall@{COUNT} of the approximate search on {count_noun(sample, 'row')}: {value[f'recall@{COUNT}']:.3f}"
        )
    print_result(value, list(shown), as_json=as_json, then=[["search", str(out), "QUERY"]])
    if len(missing) and not as_json:
        first = ", ".join(map(str, missing[:10])) + (", ..." if len(missing) > 10 else "")
        print_note(f"{count_noun(len(missing), 'row')} without this input, not in the index: {first}")


def search(
    index_dir: IndexDir,
    query: Annotated[str, typer.Argument(help='A text, a media file, or a row as JSON: \'{"image": "a.png"}\'.')],
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, help="Number of rows to return.")] = 10,
    input: Annotated[str | None, typer.Option(help="Input that encodes the query, if several can.")] = None,
    filter: Annotated[
        str | None, typer.Option(help="Condition on stored columns: \"price < 10 and color == 'red'\".")
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Compare with every row, also in an approximate index.")
    ] = False,
    ef_search: Annotated[
        int | None, typer.Option(min=1, help="Candidates of the graph search (ef); more raise the recall and the time.")
    ] = None,
    model: ModelOfIndex = None,
    root: Annotated[
        Path | None, typer.Option(help="Folder that paths in the query are relative to. Default: the current folder.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Find the rows of an index that are most similar to a text, a media file or a row."""
    from polymodal.applications.search import Index
    from polymodal.applications.search.embedding_source import load_source_model
    from polymodal.applications.search.query import embed_query

    found = Index.open(index_dir)
    loaded, source = load_source_model(found.manifest.source, model)
    vector = embed_query(loaded, source, query, input=input, root=root or Path.cwd())
    results = found.search(vector, top_k, filter=filter, exact=exact, ef_search=ef_search)
    there = results.ids[0] >= 0
    ids, similarity = results.ids[0][there].tolist(), results.similarity[0][there].tolist()
    kept = found.take(ids).to_pylist() if found.columns else [{} for _ in ids]
    rows = [
        {"rank": rank, "row": one, "similarity": near, "columns": columns}
        for rank, (one, near, columns) in enumerate(zip(ids, similarity, kept, strict=True), start=1)
    ]
    lines = [
        {"rank": row["rank"], "similarity": f"{row['similarity']:.4f}", "row": row["row"], **_shown(row["columns"])}
        for row in rows
    ]
    value = {"query": query, "count": len(rows), "rows": [{**row, "columns": _plain(row["columns"])} for row in rows]}
    print_result(value, [rows_table(lines)] if lines else ["No row meets the condition."], as_json=as_json)


def index_delete(
    index_dir: IndexDir,
    row: Annotated[list[int] | None, typer.Option("--row", help="Row to delete; repeat for several.")] = None,
    filter: Annotated[str | None, typer.Option(help="Condition: delete all rows that meet it.")] = None,
    compact: Annotated[bool, typer.Option("--compact", help="Rewrite the files without the deleted rows.")] = False,
    as_json: Json = False,
) -> None:
    """Delete rows of an index. The other rows keep their numbers."""
    from polymodal.applications.search import Index

    if not (row or filter or compact):
        raise typer.BadParameter("give --row NUMBER, a condition, or --compact")
    found = Index.open(index_dir)
    gone = found.delete(row) if row else 0
    gone += found.delete(filter=filter) if filter else 0
    if compact:
        found.compact()
    value = {"index": str(index_dir), "deleted": gone, "rows": len(found)}
    print_result(
        value, [f"{count_noun(gone, 'row')} deleted from {index_dir}, which now has {len(found):,}"], as_json=as_json
    )


def _shown(columns: dict[str, Any]) -> dict[str, Any]:
    """Cells of a result; a column called `rank`, `similarity` or `row` gets a space after its name, or several."""
    shown: dict[str, Any] = {}
    for name, cell in _plain(columns).items():
        title = name
        while title in ("rank", "similarity", "row") or (title != name and title in columns):
            title += " "
        shown[title] = cell
    return shown


def _plain(columns: dict[str, Any]) -> dict[str, Any]:
    """Cells as JSON values: the number of bytes in place of bytes, times as text."""
    return {name: _cell(cell) for name, cell in columns.items()}


def _cell(cell: Any) -> Any:
    if isinstance(cell, bytes):
        return f"{len(cell):,} bytes"
    if cell is None or isinstance(cell, str | int | float):
        return cell
    if isinstance(cell, list):
        return [_cell(one) for one in cell]
    return _plain(cell) if isinstance(cell, dict) else str(cell)
