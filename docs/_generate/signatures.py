"""Signatures and members of public functions and classes."""

from __future__ import annotations

import inspect
from typing import Any

from pydantic.fields import FieldInfo


def signature(function: Any) -> str:
    """The parameters and the result of a call on one line, without `self`."""
    found = inspect.signature(function)
    arguments: list[str] = []
    for parameter in found.parameters.values():
        if parameter.name in ("self", "cls"):
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in arguments:
            arguments.append("*")
        arguments.append(_argument(parameter))
    result = found.return_annotation
    end = "" if result in (found.empty, None, "None") else f" -> {_type_name(result)}"
    return f"({', '.join(arguments)}){end}"


def documented_members(owner: type) -> list[tuple[str, Any]]:
    """Public methods and properties that the class or a base of the package defines and documents, in the order of the
    source."""
    members: list[tuple[str, Any]] = []
    for base in owner.__mro__:
        if not base.__module__.startswith("polymodal"):
            continue
        for name, member in vars(base).items():
            if name.startswith("_") or name in dict(members) or isinstance(member, FieldInfo):
                continue
            is_method = inspect.isfunction(member) or isinstance(member, classmethod | property)
            if is_method and member.__doc__:
                members.append((name, member))
    return members


def _argument(parameter: inspect.Parameter) -> str:
    stars: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    text = stars.get(parameter.kind, "") + parameter.name
    if parameter.annotation is not parameter.empty:
        text += f": {_type_name(parameter.annotation)}"
    if parameter.default is not parameter.empty:
        text += f" = {parameter.default!r}"
    return text


def _type_name(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
