"""The command `tune-worker`: run trials of a search that another process has begun."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polymodal.cli.options import Data, Json, Root
from polymodal.cli.output import print_result
from polymodal.core.formatting import count_noun


def tune_worker(
    data: Data,
    search: Annotated[Path, typer.Option(help="Folder of the search, shared by all machines.")],
    storage: Annotated[str, typer.Option(envvar="POLYMODAL_STORAGE", help="Database of the search.")],
    root: Root = None,
    as_json: Json = False,
) -> None:
    """Run trials of a search in a database, which `tune` has begun, until it ends."""
    from polymodal.tuning.tune_worker import tune_worker as run

    completed = run(data, search=search, storage=storage, root=root, progress=not as_json)
    print_result({"completed": completed}, [f"{count_noun(completed, 'trial')} completed"], as_json=as_json)
