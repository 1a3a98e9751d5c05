"""The command `prepare`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from polymodal.cli.inputs import training_settings
from polymodal.cli.options import Data, InitFrom, Json, RecipeFile, Root, Settings, Strict, Target
from polymodal.cli.output import print_next, print_result
from polymodal.cli.sharding import ArrayShards, EngineOption, Sharding, ShardRows, Workers


def prepare(
    data: Data,
    out: Annotated[str, typer.Option("--out", "-o", help="Folder or address of the store to write.")],
    target: Target = None,
    objective: Annotated[
        list[str] | None,
        typer.Option(
            "--objective", help="Objective of pretraining, as for `pretrain`; the store is then for `pretrain`."
        ),
    ] = None,
    recipe: RecipeFile = None,
    init_from: InitFrom = None,
    settings: Settings = None,
    engine: EngineOption = None,
    workers: Workers = None,
    shards: ArrayShards = None,
    shard_rows: ShardRows = None,
    group_rows: Annotated[
        int | None,
        typer.Option(min=1, help="Rows of a row group, which training reads at once. Default: by the size of items."),
    ] = None,
    fit_rows: Annotated[
        int | None,
        typer.Option(min=1, help="Training rows to which the inputs are fitted at most. Default: 100000."),
    ] = None,
    root: Root = None,
    strict: Strict = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Delete another store in --out, or shards of other rows.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Prepare a large table for `--prepared` of `fit` and `pretrain`: decode, tokenize, encode once, by shards."""
    from polymodal.applications.batch_preparation.prepare import prepare as run
    from polymodal.core.formatting import count_noun

    numbers: dict[str, Any] = {"group_rows": group_rows, "fit_rows": fit_rows}
    done = run(
        data,
        target,
        out=out,
        objectives=objective,
        recipe=recipe,
        init_from=init_from,
        settings=training_settings(settings, strict),
        root=root,
        overwrite=overwrite,
        progress=not as_json,
        **Sharding(engine, workers, shards, shard_rows).arguments(),
        **{name: value for name, value in numbers.items() if value is not None},
    )
    text = f"{done.computed} of {count_noun(done.shards, 'shard')} prepared in {done.out}"
    if done.complete:
        text += f"; the store is complete: {count_noun(done.rows, 'row')}, {done.bytes / 2**20:,.1f} MiB"
        text += f", {count_noun(done.cell_errors, 'cell')} could not be used" if done.cell_errors else ""
    print_result(asdict(done), [text], as_json=as_json)
    if done.complete and not as_json:
        print_next([["pretrain" if objective else "fit", data, "--prepared", done.out, "--out", "NEW_FOLDER"]])
