"""The page of the command line: usage, arguments and options of every command."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, get_type_hints

import typer

from polymodal.cli.commands import app

from .markdown import first_sentence, table, table_cell
from .options_table import type_text


def commands_page() -> str:
    commands = _commands(app)
    rows = [[f"[`{name}`](#{_anchor(name)})", first_sentence(function)] for name, function in commands]
    lines = [
        "# Commands",
        "",
        str(typer.main.get_command(app).help),
        "",
        "`polymodal COMMAND --help` prints the same text.",
        "",
    ]
    lines += [*table(["command", "what it does"], rows), ""]
    for name, function in commands:
        lines += [f"({_anchor(name)})=", f"## polymodal {name}", "", *_command(name, function), ""]
    return "\n".join(lines)


def _anchor(name: str) -> str:
    return "command-" + name.replace(" ", "-")


def _command(name: str, function: Callable[..., Any]) -> list[str]:
    """Docstring, usage and table of one command."""
    hints = get_type_hints(function, include_extras=True)
    parameters = [
        (parameter, *hints[parameter.name].__metadata__[:1], hints[parameter.name].__origin__)
        for parameter in inspect.signature(function).parameters.values()
        if hints[parameter.name] is not typer.Context
    ]
    usage = [
        parameter.name.upper() if parameter.default is parameter.empty else f"[{parameter.name.upper()}]"
        for parameter, info, _ in parameters
        if isinstance(info, typer.models.ArgumentInfo)
    ]
    rows = [_parameter_row(parameter, annotation, info) for parameter, info, annotation in parameters]
    return [
        " ".join((function.__doc__ or "").split()),
        "",
        "```text",
        " ".join(["polymodal", name, *usage, "[OPTIONS]"]),
        "```",
        "",
        *table(["argument or option", "value and range", "default", "effect"], rows),
    ]


def _commands(group: typer.Typer) -> list[tuple[str, Callable[..., Any]]]:
    """Name and function of every command. The commands of a group follow what the group itself does."""
    commands: list[tuple[str, Callable[..., Any]]] = [
        (command.name or command.callback.__name__.replace("_", "-"), command.callback)
        for command in group.registered_commands
        if command.callback is not None
    ]
    for inner in group.registered_groups:
        instance: Any = inner.typer_instance
        commands.append((str(inner.name), instance.registered_callback.callback))
        commands += [(f"{inner.name} {name}", function) for name, function in _commands(instance)]
    return commands


def _parameter_row(parameter: inspect.Parameter, annotation: Any, info: Any) -> list[str]:
    flags = list(info.param_decls or [])
    if isinstance(info.default, str):  # in `Annotated`, typer keeps the first name of an option there
        flags.insert(0, info.default)
    if isinstance(info, typer.models.OptionInfo) and not flags:
        flags = ["--" + parameter.name.replace("_", "-")]
    names = [name for flag in flags for name in flag.split("/")]  # `--exact/--approximate` are two
    name = ", ".join(f"`{name}`" for name in names) or f"`{parameter.name.upper()}`"
    default = "required" if parameter.default is parameter.empty else ""
    if parameter.default not in (None, False, parameter.empty):
        default = f"`{parameter.default}`"
    value = "switch" if annotation is bool else type_text(annotation).removesuffix(" or null")
    bounds = [f"≥ {info.min}"] * (info.min is not None) + [f"≤ {info.max}"] * (info.max is not None)
    return [name, table_cell(", ".join([value, *bounds])), default, table_cell(info.help or "")]
