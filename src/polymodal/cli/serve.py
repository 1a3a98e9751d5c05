"""The command `serve`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from polymodal.cli.quick_start import skip_pandas
from polymodal.core.errors import RecipeError


def serve(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...",
            help="Model directories. The name of a folder is that of the model; NAME=RUN sets another.",
        ),
    ],
    host: Annotated[
        str, typer.Option(help="Address to listen on. Others than this machine need POLYMODAL_API_KEY.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port to listen on; 0: a free one.")] = 8000,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 or mps. Default: an accelerator, if any.")] = "auto",
    preload: Annotated[bool, typer.Option("--preload", help="Load all models before the first request.")] = False,
    max_requests: Annotated[int, typer.Option(min=1, help="Requests at once; further ones get status 429.")] = 64,
    max_rows: Annotated[int, typer.Option(min=1, help="Rows of one request.")] = 256,
    max_batch_rows: Annotated[int, typer.Option(min=1, help="Rows that are computed together.")] = 64,
    max_body_mib: Annotated[float, typer.Option(help="Size of the body of a request, in MiB.")] = 16.0,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Tokens that a request may generate for a text.")] = 1024,
) -> None:
    """Answer requests over HTTP with trained models, also those of OpenAI clients.

    The environment variable POLYMODAL_API_KEY holds the key that requests must give. SIGTERM ends the service.
    """
    skip_pandas()
    from polymodal.core.terminal import make_console, plain_text
    from polymodal.serving.options import ServingOptions
    from polymodal.serving.service import KEY_VARIABLE
    from polymodal.serving.service import serve as run

    models = named_models(runs)
    if max_body_mib <= 0:
        raise typer.BadParameter("must be above 0", param_hint="--max-body-mib")
    options = ServingOptions(
        host=host,
        port=port,
        device=device,
        preload=preload,
        max_requests=max_requests,
        max_rows=max_rows,
        max_batch_rows=max_batch_rows,
        max_body_mib=max_body_mib,
        max_new_tokens=max_new_tokens,
    )
    console = make_console()

    def started(address: str) -> None:
        console.print(plain_text(f"{', '.join(models)} at {address}"), soft_wrap=True)
        console.file.flush()

    run(models, options, key=os.environ.get(KEY_VARIABLE) or None, started=started)


def named_models(runs: list[str]) -> dict[str, Path]:
    """The model directories by name: `NAME=RUN`, or the name of the folder.

    Raises:
        RecipeError: two have the same name, or one has none.

    Example:
        >>> named_models(["runs/kinds", "prices=runs/second"])
        {'kinds': PosixPath('runs/kinds'), 'prices': PosixPath('runs/second')}
    """
    found: dict[str, Path] = {}
    for run in runs:
        name, equals, folder = run.partition("=")
        path = Path(folder if equals else run)
        name = name if equals else path.resolve().name
        if not name or "/" in name:
            raise RecipeError("runs", f"{run!r} gives no name for the model; write NAME=RUN")
        if name in found:
            raise RecipeError("runs", f"two models have the name {name!r}; write NAME=RUN for one of them")
        found[name] = path
    return found
