"""All commands, in the order of `polymodal --help`."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from polymodal._version import __version__
from polymodal.cli import (
    active_learning,
    catalog,
    components,
    curate,
    demo,
    diagnose,
    doctor,
    evaluation,
    explain,
    export,
    few_shot,
    index,
    models,
    multitask_gain,
    prediction,
    preparation,
    serve,
    training,
    tune,
    tune_worker,
    weights,
    zero_shot,
)
from polymodal.core.errors import RecipeError
from polymodal.core.formatting import escape_controls
from polymodal.distributed.launch import num_processes

COMMANDS: dict[str, Callable[..., None]] = {
    "fit": training.fit,
    "predict": prediction.predict,
    "evaluate": evaluation.evaluate,
    "explain": explain.explain,
    "diagnose": diagnose.diagnose,
    "plan": training.plan,
    "init": training.init,
    "list": components.list_components,
    "recipes": catalog.recipes,
    "cross-validate": evaluation.cross_validate,
    "compare": evaluation.compare,
    "curate": curate.curate,
    "few-shot": few_shot.few_shot,
    "generate": prediction.generate,
    "index": index.index,
    "prepare": preparation.prepare,
    "pretrain": training.pretrain,
    "multitask-gain": multitask_gain.multitask_gain,
    "active-learning": active_learning.active_learning,
    "search": index.search,
    "serve": serve.serve,
    "transcribe": prediction.transcribe,
    "tune": tune.tune,
    "tune-worker": tune_worker.tune_worker,
    "zero-shot": zero_shot.zero_shot,
    "index-delete": index.index_delete,
    "ensemble": models.ensemble,
    "export": export.export,
    "compress": models.compress,
    "cache": catalog.cache,
    "schema": catalog.schema,
    "demo": demo.demo,
    "doctor": doctor.doctor,
}

#: The commands that several processes run together.
DISTRIBUTED = ("fit", "pretrain")

#: Words that users of other tools may try, and the command that does it.
OTHER_WORDS = {
    "train": "fit",
    "finetune": "fit",
    "test": "evaluate",
    "eval": "evaluate",
    "score": "evaluate",
    "infer": "predict",
    "inference": "predict",
    "embed": "index",
    "caption": "generate",
    "hpo": "tune",
    "automl": "tune",
    "dedup": "curate",
    "quantize": "compress",
    "deploy": "serve",
    "api": "serve",
    "version": "--version",
    "help": "--help",
}


class CommandGroup(TyperGroup):
    """The commands. The error for an unknown command suggests one: the nearest, or that for a word of other tools."""

    def make_context(self, *given: Any, **named: Any) -> Any:
        with _escaped_messages():
            return super().make_context(*given, **named)

    def invoke(self, ctx: Any) -> Any:
        with _escaped_messages():
            return super().invoke(ctx)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        word = args[0]
        if self.get_command(ctx, word) is None and not word.startswith("-"):
            ctx.fail(f"There is no command {word!r}. {command_hint(word, self.commands)}")
        return super().resolve_command(ctx, args)


@contextmanager
def _escaped_messages() -> Iterator[None]:
    """Escape the control characters of a usage error, which quotes words such as the names of files."""
    try:
        yield
    except Exception as error:
        message = getattr(error, "message", None)  # of usage errors; their class is private to typer
        if isinstance(message, str):
            error.message = escape_controls(message)  # type: ignore[attr-defined]
        raise


class SettingCommand(TyperCommand):
    """A command. The error for an unknown option that is a recipe key says how to set it. Several processes run only
    the commands that train one model."""

    def invoke(self, ctx: Any) -> Any:
        check_launch(self.name or "")
        return super().invoke(ctx)

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        known = {option for parameter in self.params for option in (*parameter.opts, *parameter.secondary_opts)}
        unknown = [option for option in (word.partition("=")[0] for word in args) if option not in known]
        if "--set" in known:
            for option in unknown:
                if option.startswith("--") and (key := recipe_key(option)):
                    ctx.fail(f"No such option: {option}. It is a recipe key: write --set {key}=VALUE.")
        return super().parse_args(ctx, args)


def check_launch(command: str) -> None:
    """Check that a command may run in several processes.

    Raises:
        RecipeError: each process would do all of its work, and write the same files.
    """
    if command not in DISTRIBUTED and num_processes() > 1:
        raise RecipeError(
            "", f"{command} runs in one process, and the launcher has started {num_processes()}: start it without one"
        )


def recipe_key(option: str) -> str:
    """The recipe key that an unknown option may mean; empty if there is none.

    >>> recipe_key("--device"), recipe_key("--seed"), recipe_key("--outt")
    ('training.device', 'seed', '')
    """
    from polymodal.recipe.recipe import Recipe
    from polymodal.recipe.training import TrainingOptions

    name = option.lstrip("-").replace("-", "_")
    return f"training.{name}" if name in TrainingOptions.model_fields else name if name in Recipe.model_fields else ""


def command_hint(word: str, known: Iterable[str]) -> str:
    """The command that an unknown `word` may mean.

    >>> command_hint("trian", ["fit", "pretrain"])
    '`polymodal fit` is the command to train.'
    >>> command_hint("evalute", ["fit", "evaluate"])
    'Did you mean `polymodal evaluate`?'
    """
    known = [*known, "--version", "--help"]
    others = {other: name for other, name in OTHER_WORDS.items() if name in known}
    close = difflib.get_close_matches(word.lower(), [*known, *others], n=1, cutoff=0.6)
    if not close:
        return "`polymodal --help` lists all commands."
    command = others.get(close[0], close[0])
    if command == close[0] or command.startswith("-"):
        return f"Did you mean `polymodal {command}`?"
    return f"`polymodal {command}` is the command to {close[0]}."


app = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"polymodal {__version__}\n")
        raise typer.Exit


@app.callback()
def polymodal(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Turn a table of mixed media into a multimodal model."""


for name, command in COMMANDS.items():
    app.command(name, cls=SettingCommand)(command)
app.add_typer(weights.app, name="weights")
