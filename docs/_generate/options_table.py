"""The fields of an options class as a table: type and range, default, effect."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from polymodal.core.needs import Needs
from polymodal.core.option_docs import documented_fields
from polymodal.core.options import Options

from .markdown import first_sentence, table, table_cell

PLAIN_TYPES: dict[Any, str] = {
    int: "int",
    float: "float",
    bool: "bool",
    str: "text",
    Path: "path",
    NoneType: "null",
    Any: "any value",
}
#: The attribute of a constraint, and how a bound is written.
BOUNDS = {
    "ge": "≥ {}",
    "gt": "> {}",
    "le": "≤ {}",
    "lt": "< {}",
    "min_length": "length ≥ {}",
    "max_length": "length ≤ {}",
}


def options_table(model: type[BaseModel], links: dict[str, str] | None = None) -> str:
    """The fields of `model`. The field `name` of a component is left out: it only selects the component.

    links: where the fields of a nested section are described, by field
    """
    rows = []
    for key, field in documented_fields(model).items():
        if key == "name" and issubclass(model, Options):
            continue
        link = (links or {}).get(key)
        default = f"[see below]({link})" if link else table_cell(default_text(field))
        rows.append([f"`{key}`", table_cell(type_and_range(field)), default, effect(field)])
    return "\n".join(table(["option", "type and range", "default", "effect"], rows)) if rows else "No options."


def nested_section(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    """The options class that a key holds, and whether the key holds several of them by name."""
    if get_origin(annotation) is dict:
        return nested_section(get_args(annotation)[1])[0], True
    if isinstance(annotation, type) and issubclass(annotation, BaseModel) and annotation is not Options:
        return annotation, False
    return None, False


def type_and_range(field: FieldInfo) -> str:
    bounds = ", ".join(_bounds(field))
    section, several = nested_section(field.annotation)
    kind = "section" if section and not several else type_text(field.annotation)
    return f"{kind}, {bounds}" if bounds else kind


def type_text(annotation: Any) -> str:
    """A type in the words of a recipe: `int or null`, `"crop" or "pad"`, `list of text`."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_text(arguments[0])
    if origin is Literal:
        return " or ".join(f"`{value}`" if isinstance(value, str) else json.dumps(value) for value in arguments)
    if origin in (Union, UnionType):
        return " or ".join(type_text(argument) for argument in arguments)
    if origin is list:
        return f"list of {type_text(arguments[0])}"
    if origin is tuple:
        return "[" + ", ".join(type_text(argument) for argument in arguments) + "]"
    if origin is dict:
        return f"mapping of {type_text(arguments[0])} to {type_text(arguments[1])}"
    if annotation is Options:
        return "component"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    return PLAIN_TYPES.get(annotation, str(annotation))


def default_text(field: FieldInfo) -> str:
    extra = field.json_schema_extra
    sizes = extra.get("sizes") if isinstance(extra, dict) else None
    if isinstance(sizes, dict):
        return ", ".join(f"{size} `{plain(value)}`" for size, value in sizes.items())
    default = PydanticUndefined if field.is_required() else field.get_default(call_default_factory=True)
    return "required" if default is PydanticUndefined else f"`{plain(default)}`"


def plain(value: Any) -> str:
    """A value as it stands in a recipe."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    return value if isinstance(value, str) and value.isidentifier() else json.dumps(value, ensure_ascii=False)


def effect(field: FieldInfo) -> str:
    """The documentation of a field; that of the nested section where the field itself has none."""
    section, _ = nested_section(field.annotation)
    text = table_cell(field.description) if field.description else first_sentence(section) if section else ""
    needed = " and ".join(table_cell(need.condition) for need in field.metadata if isinstance(need, Needs))
    return f"{text} Needs: {needed}." if needed else text


def _bounds(field: FieldInfo) -> Iterator[str]:
    """The bounds of a number, of the length of a text or list, or of the numbers in a list."""
    yield from _written_bounds(field.metadata)
    prefix = "each " if _is_list(field.annotation) else ""
    for annotation in _inner_annotations(field.annotation):
        if get_origin(annotation) is Annotated:
            for metadata in get_args(annotation)[1:]:
                inner = metadata.metadata if isinstance(metadata, FieldInfo) else [metadata]
                yield from (prefix + bound for bound in _written_bounds(inner))


def _written_bounds(metadata: list[Any]) -> list[str]:
    return [
        text.format(getattr(constraint, attribute))
        for constraint in metadata
        for attribute, text in BOUNDS.items()
        if getattr(constraint, attribute, None) is not None
    ]


def _inner_annotations(annotation: Any) -> Iterator[Any]:
    yield annotation
    for argument in get_args(annotation):
        if get_origin(annotation) is not Literal:
            yield from _inner_annotations(argument)


def _is_list(annotation: Any) -> bool:
    return any(get_origin(inner) in (list, tuple, dict) for inner in _inner_annotations(annotation))
