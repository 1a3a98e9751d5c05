"""The command line as a whole: every command, in the order in which `polymodal --help` lists them."""

from __future__ import annotations

from collections.abc import Callable

import typer

from polymodal.cli import (
    catalog,
    components,
    curate,
    demo,
    evaluation,
    few_shot,
    index,
    models,
    prediction,
    sharing,
    suggest,
    training,
    tune,
    weights,
    zero_shot,
)

COMMANDS: dict[str, Callable[..., None]] = {
    "fit": training.fit,
    "predict": prediction.predict,
    "evaluate": evaluation.evaluate,
    "recipe": training.recipe,
    "list": components.list_components,
    "recipes": catalog.recipes,
    "cross-validate": evaluation.cross_validate,
    "compare": evaluation.compare,
    "curate": curate.curate,
    "few-shot": few_shot.few_shot,
    "generate": prediction.generate,
    "index": index.index,
    "pretrain": training.pretrain,
    "sharing": sharing.sharing,
    "suggest": suggest.suggest,
    "search": index.search,
    "transcribe": prediction.transcribe,
    "tune": tune.tune,
    "zero-shot": zero_shot.zero_shot,
    "unindex": index.unindex,
    "ensemble": models.ensemble,
    "compress": models.compress,
    "cache": catalog.cache,
    "schema": catalog.schema,
    "demo": demo.demo,
}

app = typer.Typer(
    help="Turn a table of mixed media into a multimodal model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for name, command in COMMANDS.items():
    app.command(name)(command)
app.add_typer(weights.app, name="weights")
