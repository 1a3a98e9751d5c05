"""Writes docs/reference/ from the code: components, recipe, commands, Python names, errors, the recipe's JSON schema.

python docs/generate.py [FOLDER]

The same code gives the same bytes. Nothing under docs/reference/ is edited by hand or kept in git.
"""

from __future__ import annotations

import inspect
import json
import re
import shutil
import sys
from dataclasses import is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

import polymodal
from polymodal import datasets
from polymodal.cli.commands import app
from polymodal.core import errors
from polymodal.core.options import Options
from polymodal.core.registry import KINDS, components
from polymodal.data.table.cell_errors import BadCellsWarning
from polymodal.generation.output import GenerationOutput
from polymodal.recipe.recipe import Recipe
from polymodal.workflows.cross_validation import CrossValidation

TITLES = {
    "modality": ("modalities", "Modalities", "One kind of input: how its cells are recognised, cleaned and prepared."),
    "encoder": ("encoders", "Encoders", "Networks that turn prepared tensors into tokens; each reads one modality."),
    "fusion": ("fusions", "Fusions", "How the inputs become one; compared in [Fusion](../fusion.md)."),
    "decoder": ("decoders", "Decoders", "Networks that turn a fused view into the numbers that a task reads."),
    "task": ("tasks", "Tasks", "One kind of target: its loss, predictions and scores."),
    "objective": (
        "objectives",
        "Objectives",
        "Losses on the inputs themselves, without a target; compared in [Learning without labels](../objectives.md).",
    ),
}


def generate(folder: Path) -> None:
    """Write the whole reference into `folder`, which is replaced."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    pages = {f"{TITLES[kind][0]}.md": kind_page(kind) for kind in KINDS}
    pages |= {
        "index.md": index_page(),
        "recipe.md": recipe_page(),
        "commands.md": commands_page(),
        "python.md": python_page(),
        "datasets.md": datasets_page(),
        "errors.md": errors_page(),
    }
    for name, text in pages.items():
        (folder / name).write_text(text, encoding="utf-8")
    schema = json.dumps(Recipe.model_json_schema(), indent=2, ensure_ascii=False, sort_keys=True)
    (folder / "recipe.schema.json").write_text(schema + "\n", encoding="utf-8")


def index_page() -> str:
    lines = ["# Reference", "", "Generated from the code by `docs/generate.py`.", ""]
    for kind in KINDS:
        page, title, what = TITLES[kind]
        names = ", ".join(f"[{name}]({page}.md#{name})" for name in components(kind))
        lines += [f"- [{title}]({page}.md): {what.split(';')[0].rstrip('.')}: {names}"]
    lines += [
        "- [Recipe](recipe.md): every section and key; [JSON schema](recipe.schema.json)",
        "- [Commands](commands.md): the command line",
        "- [Python](python.md): the public names",
        "- [Data sets](datasets.md): generated and packaged ones, for examples and tests",
        "- [Errors](errors.md): what can be raised on purpose",
    ]
    return "\n".join(lines) + "\n"


def kind_page(kind: str) -> str:
    """Every component of a kind: docstring, options, where it lives."""
    _, title, what = TITLES[kind]
    lines = [f"# {title}", "", what, ""]
    for name, component in components(kind).items():
        lines += [f"## {name}", "", docstring(component), ""]
        facts = _facts(kind, component)
        lines += [f"{fact}  " for fact in facts]
        lines += ["", options_table(component.Options), ""]
        for key, field in component.Options.model_fields.items():
            inner, _ = _section(field.annotation)
            if inner is not None:
                lines += [f"### `{name}.{key}`", "", docstring(inner), "", options_table(inner), ""]
    return "\n".join(lines)


def _facts(kind: str, component: type[Any]) -> list[str]:
    facts = [f"Class: `{component.__module__}.{component.__qualname__}`"]
    if kind == "modality":
        facts.append(f"Default encoder: [{component.default_encoder}](encoders.md#{component.default_encoder})")
        facts.append(f"Columns of one input: {'one or more' if component.many_columns else 'one'}")
    if kind == "encoder":
        facts.append(f"Reads: [{component.modality}](modalities.md#{component.modality})")
    if kind == "fusion":
        facts.append(f"Level: {component.level}")
    if kind == "task":
        facts.append(f"Decided values: {component.space}")
    if kind == "objective":
        fitting = [f"[{name}](modalities.md#{name})" for name in component.modalities]
        facts.append(f"Learns from: {', '.join(fitting) or 'any modality'}; {component.fewest} or more inputs")
    return facts


def options_table(model: type[BaseModel]) -> str:
    """The fields of an options class as a table; `name`, which only says which component it is, is left out."""
    fields = {key: field for key, field in model.model_fields.items() if not _is_component_name(model, key)}
    if not fields:
        return "No options."
    rows = ["| option | type | default | range | meaning |", "|---|---|---|---|---|"]
    for key, field in fields.items():
        cells = [f"`{key}`", type_cell(field.annotation), default_cell(field), range_cell(field), meaning(field)]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _is_component_name(model: type[BaseModel], key: str) -> bool:
    return key == "name" and issubclass(model, Options)


def type_cell(annotation: Any) -> str:
    return f"`{type_text(annotation)}`"


def type_text(annotation: Any) -> str:
    """A type in the words of a recipe: `int or null`, `"crop" or "pad"`, `list of text`."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_text(arguments[0])
    if origin is Literal:
        return " or ".join(json.dumps(one) for one in arguments)
    if origin in (Union, UnionType):
        return " or ".join(type_text(one) for one in arguments)
    if origin is list:
        return f"list of {type_text(arguments[0])}"
    if origin is tuple:
        return "[" + ", ".join(type_text(one) for one in arguments) + "]"
    if origin is dict:
        return f"mapping of {type_text(arguments[0])} to {type_text(arguments[1])}"
    if annotation is Options:
        return "component"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation.__name__
    known = {int: "int", float: "float", bool: "bool", str: "text", Path: "path", NoneType: "null"}
    return known.get(annotation, str(annotation))


def default_cell(field: FieldInfo) -> str:
    sizes = (field.json_schema_extra or {}).get("sizes") if isinstance(field.json_schema_extra, dict) else None
    if isinstance(sizes, dict):
        return ", ".join(f"{size} `{plain(value)}`" for size, value in sizes.items())
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    if default is PydanticUndefined:
        return "required"
    return "see below" if isinstance(default, BaseModel) else f"`{plain(default)}`"


def plain(value: Any) -> str:
    return value if isinstance(value, str) and value.isidentifier() else json.dumps(value, ensure_ascii=False)


def range_cell(field: FieldInfo) -> str:
    """The bounds of a number or the least length of a text."""
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "min_length": "length ≥"}
    found = []
    for constraint in field.metadata:
        found += [f"{sign} {getattr(constraint, key)}" for key, sign in signs.items() if hasattr(constraint, key)]
    return escaped(", ".join(found))


def meaning(field: FieldInfo) -> str:
    return escaped(" ".join((field.description or "").split()))


def escaped(text: str) -> str:
    """Text as one table cell."""
    return text.replace("<", "&lt;").replace("|", "&#124;") if "`" not in text else _escape_outside_code(text)


def _escape_outside_code(text: str) -> str:
    parts = text.split("`")
    for place in range(0, len(parts), 2):
        parts[place] = parts[place].replace("<", "&lt;").replace("|", "&#124;")
    return "`".join(parts)


def docstring(thing: Any) -> str:
    """A docstring as Markdown: indented formulas stay blocks of code, arguments and `Raises` become lists."""
    lines: list[str] = []
    names, item = _argument_names(thing), False
    for line in inspect.cleandoc(thing.__doc__ or "").splitlines():
        before, colon, after = line.partition(": ")
        if line == "Raises:":
            lines, item = [*_ended(lines), "**Raises**", ""], True
        elif item and (lines[-1] == "" or re.match(r"    ([A-Z]\w+(, )?)+: ", line)):
            lines.append(f"- {line.strip()}")
        elif item and line.startswith("    "):
            lines[-1] += f" {line.strip()}"
        elif colon and names and set(before.split(", ")) <= names:
            lines, item = [*(lines if item else _ended(lines)), f"- **{before}**: {after}"], True
        else:
            lines.append(line)
            item = False
    return "\n".join(_escape_outside_code(line) if not line.startswith("    ") else line for line in lines)


def _ended(lines: list[str]) -> list[str]:
    """The lines with one blank line at the end, which Markdown wants before a list."""
    return lines if not lines or lines[-1] == "" else [*lines, ""]


def _argument_names(thing: Any) -> set[str]:
    """What a docstring may describe in lines `name: text`: parameters, and the fields of a class."""
    if isinstance(thing, property | classmethod):
        thing = getattr(thing, "__func__", None)
    if thing is None or (inspect.isclass(thing) and issubclass(thing, BaseModel | Exception)):
        return set()
    if not inspect.isclass(thing) and not inspect.isfunction(thing):
        return set()
    return set(inspect.signature(thing).parameters) | set(getattr(thing, "__annotations__", {}))


def recipe_page() -> str:
    lines = [
        "# Recipe",
        "",
        "A recipe is a mapping, in YAML or JSON. Every key may be left out; what is silent is inferred from the data "
        "or follows from `size`. Unknown keys are errors. An input can be written short as its modality "
        "(`question: text`), an output as its task (`price: regress`), a component as its name (`fusion: gated`). "
        "How to use it: [Recipes and overrides](../howto/recipes.md). "
        "For editors: [recipe.schema.json](recipe.schema.json).",
        "",
    ]
    todo: list[tuple[str, type[BaseModel]]] = [("Top level", Recipe)]
    while todo:
        path, model = todo.pop(0)
        lines += [f"## {path}", "", docstring(model), "", options_table(model), ""]
        for key, field in model.model_fields.items():
            inner, many = _section(field.annotation)
            if inner is not None:
                step = f"{key}.<name>" if many else key
                todo.append((f"`{step}`" if path == "Top level" else f"`{path.strip('`')}.{step}`", inner))
    return "\n".join(lines)


def _section(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    """The model that a recipe key holds, and whether it holds many of them by name."""
    if get_origin(annotation) is dict:
        return _section(get_args(annotation)[1])[0], True
    if isinstance(annotation, type) and issubclass(annotation, BaseModel) and annotation is not Options:
        return annotation, False
    return None, False


def commands_page() -> str:
    lines = ["# Commands", "", str(app.info.help), "", "`polymodal COMMAND --help` prints the same.", ""]
    for name, function in _commands(app):
        hints = get_type_hints(function, include_extras=True)
        given = [one for one in inspect.signature(function).parameters.values() if hints[one.name] is not typer.Context]
        parameters = [(one, *get_args(hints[one.name])[:2]) for one in given]
        arguments = [one for one, _, info in parameters if isinstance(info, typer.models.ArgumentInfo)]
        usage = [one.name.upper() if one.default is one.empty else f"[{one.name.upper()}]" for one in arguments]
        lines += [f"## polymodal {name}", "", " ".join((function.__doc__ or "").split()), ""]
        lines += ["```text", " ".join(["polymodal", name, *usage, "[OPTIONS]"]), "```", ""]
        lines += ["| argument or option | value | default | meaning |", "|---|---|---|---|"]
        lines += [_parameter_row(*one) for one in parameters]
        lines += [""]
    return "\n".join(lines)


def _commands(group: typer.Typer) -> list[tuple[str, Any]]:
    """Name and function of every command; those of a group stand behind what the group itself does."""
    found: list[tuple[str, Any]] = [
        (one.name or one.callback.__name__.replace("_", "-"), one.callback)
        for one in group.registered_commands
        if one.callback is not None
    ]
    for inner in group.registered_groups:
        within: Any = inner.typer_instance
        found.append((str(inner.name), within.registered_callback.callback))
        found += [(f"{inner.name} {name}", function) for name, function in _commands(within)]
    return found


def _parameter_row(parameter: inspect.Parameter, annotation: Any, info: Any) -> str:
    flags = list(info.param_decls or [])
    if isinstance(info.default, str):  # in `Annotated`, typer keeps the first name of an option there
        flags.insert(0, info.default)
    if isinstance(info, typer.models.OptionInfo) and not flags:
        flags = ["--" + parameter.name.replace("_", "-")]
    name = ", ".join(f"`{flag}`" for flag in flags) or f"`{parameter.name.upper()}`"
    default = "required" if parameter.default is parameter.empty else ""
    if parameter.default not in (None, False, parameter.empty):
        default = f"`{parameter.default}`"
    value = "" if annotation is bool else type_text(annotation).removesuffix(" or null")
    return f"| {name} | {value} | {default} | {escaped(info.help or '')} |"


def python_page() -> str:
    lines = ["# Python", "", "`import polymodal` gives these names.", ""]
    for name in polymodal.__all__:
        if name != "__version__":
            lines += _python_section(name, getattr(polymodal, name))
    lines += ["## What functions return", ""]
    for name, returned in (("CrossValidation", CrossValidation), ("Written", GenerationOutput)):
        lines += [line.replace("## ", "### ", 1) for line in _python_section(name, returned)]
    return "\n".join(lines)


def datasets_page() -> str:
    lines = ["# Data sets", "", docstring(datasets), ""]
    for name in datasets.__all__:
        lines += _python_section(name, getattr(datasets, name))
    return "\n".join(lines)


def _python_section(name: str, thing: Any) -> list[str]:
    lines = [f"## {name}", ""]
    if thing is Recipe:
        lines += ["```python", "Recipe(**sections)", "```", "", "Sections and keys: [Recipe](recipe.md).", ""]
    elif not is_dataclass(thing):
        lines += ["```python", signature(name, thing), "```", ""]
    lines += [docstring(thing), ""]
    for member_name, member in _members(thing) if inspect.isclass(thing) else []:
        lines += [f"### {name}.{member_name}", ""]
        function = getattr(member, "__func__", member)
        if callable(function):
            lines += ["```python", signature(member_name, function), "```", ""]
        lines += [docstring(member), ""]
    return lines


def _members(owner: type) -> list[tuple[str, Any]]:
    """Public methods and properties that the class itself defines and documents, in the order of the source."""
    found: list[tuple[str, Any]] = []
    for base in owner.__mro__:
        if not base.__module__.startswith("polymodal"):
            continue
        for name, member in vars(base).items():
            if name.startswith("_") or name in dict(found) or isinstance(member, FieldInfo):
                continue
            callable_member = inspect.isfunction(member) or isinstance(member, classmethod | property)
            if callable_member and member.__doc__:
                found.append((name, member))
    return found


def signature(name: str, function: Any) -> str:
    """A call as it can be written: one line, or one line for each argument; without `self`."""
    found = inspect.signature(function)
    arguments: list[str] = []
    for one in found.parameters.values():
        if one.name in ("self", "cls"):
            continue
        if one.kind is one.KEYWORD_ONLY and "*" not in arguments:
            arguments.append("*")
        arguments.append(_argument(one))
    end = "" if found.return_annotation in (found.empty, None, "None") else f" -> {_name(found.return_annotation)}"
    text = f"{name}({', '.join(arguments)}){end}"
    if len(text) <= 100:
        return text
    return "\n".join([f"{name}(", *(f"    {one}," for one in arguments), f"){end}"])


def _argument(parameter: inspect.Parameter) -> str:
    stars: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    text = stars.get(parameter.kind, "") + parameter.name
    if parameter.annotation is not parameter.empty:
        text += f": {_name(parameter.annotation)}"
    if parameter.default is not parameter.empty:
        text += f" = {parameter.default!r}"
    return text


def _name(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))


def errors_page() -> str:
    lines = [
        "# Errors",
        "",
        "Everything that Polymodal raises on purpose derives from `polymodal.core.errors.PolymodalError`. The command "
        "line prints it without a traceback (as a JSON object with `--json`) and ends with status 2.",
        "",
    ]
    for name, thing in vars(errors).items():
        if inspect.isclass(thing) and issubclass(thing, errors.PolymodalError):
            lines += [f"## {name}", "", docstring(thing), ""]
    lines += [
        "## BadCellsWarning",
        "",
        "A warning, in `polymodal.data.table.cell_errors`. " + docstring(BadCellsWarning),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "reference")
