"""Types of options: true and false are no numbers, numbers are neither true nor false, and names are texts."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin


def checked_kind(value: Any, annotation: Any) -> Any:
    """The value of an option, before pydantic converts it: a whole number where a text is expected becomes that text.

    Raises:
        ValueError: true or false for a number, a number for true or false, or either of them for a text; also inside of
            a list or a mapping.
    """
    scalars, inner = _kinds(annotation)
    if inner is not None and isinstance(value, Mapping):
        return {key: checked_kind(one, inner) for key, one in value.items()}
    if inner is not None and isinstance(value, list | tuple):
        return type(value)(checked_kind(one, inner) for one in value)
    if isinstance(value, bool) and scalars and not scalars & {bool, Any}:
        if scalars & {int, float}:
            raise ValueError(f"must be a number, not {str(value).lower()}")
        if str in scalars:
            raise ValueError(f"must be a text; write it in quotes: '{str(value).lower()}'")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        if scalars == {bool}:
            raise ValueError(f"must be true or false, not {value}")
        if str in scalars and not scalars & {int, float, Any}:
            if isinstance(value, float):
                raise ValueError("must be a text; write it in quotes")
            return str(value)
    return value


@cache
def _kinds(annotation: Any) -> tuple[frozenset[Any], Any]:
    """The scalar types of an annotation, and the annotation of the values of its lists and mappings."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kinds(arguments[0])
    if origin in (Union, UnionType):
        found = [_kinds(argument) for argument in arguments]
        return frozenset().union(*(kinds for kinds, _ in found)), next((one for _, one in found if one), None)
    if origin is Literal:
        return frozenset({bool} if bool in map(type, arguments) else ()), None
    if origin in (list, tuple, dict) and arguments:
        return frozenset(), arguments[1 if origin is dict else 0]
    return frozenset(() if annotation is NoneType else {annotation}), None


def without_repeats(names: list[str]) -> list[str]:
    """The same names.

    Raises:
        ValueError: one of them occurs twice.
    """
    for position, name in enumerate(names):
        if name in names[:position]:
            raise ValueError(f"{name!r} is listed twice; remove one")
    return names
