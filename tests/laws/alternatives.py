"""Other values of an option, found from its type and range."""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from polymodal.core.errors import RecipeError
from polymodal.core.options import Options


def alternatives(owner: type[BaseModel], name: str, given: dict[str, Any]) -> Iterator[Any]:
    """Values of the field `name` other than its default that `owner` accepts beside the fields `given`."""
    field = owner.model_fields[name]
    try:
        default = getattr(owner(**given), name)
    except (ValidationError, RecipeError):
        default = field.get_default(call_default_factory=True)
    for value in candidates(field.annotation, field, default):
        if value == default and type(value) is type(default):
            continue
        try:
            owner(**{**given, name: value})
        except (ValidationError, RecipeError):
            continue
        yield value


def exhaustive(field: FieldInfo) -> bool:
    """Whether the alternatives are all there are (a choice, a switch), so that each must have an effect."""
    kinds = [kind for kind in branches(field.annotation) if kind is not type(None)]
    return all(kind is bool or get_origin(kind) is Literal for kind in kinds)


def branches(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Annotated:
        return branches(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [kind for argument in get_args(annotation) for kind in branches(argument)]
    return [annotation]


def candidates(annotation: Any, field: FieldInfo, default: Any) -> Iterator[Any]:
    for kind in branches(annotation):
        if kind is type(None):
            yield None
        elif kind is bool:
            yield from (True, False)
        elif get_origin(kind) is Literal:
            yield from get_args(kind)
        elif kind is int:
            yield from whole_numbers(field, default)
        elif kind is float:
            yield from numbers(field, default)
        elif isinstance(kind, type) and issubclass(kind, Options):
            slot = next(one for one in field.metadata if hasattr(one, "_known"))
            yield from slot._known()


def whole_numbers(field: FieldInfo, default: Any) -> Iterator[int]:
    low, high = bounds(field)
    if isinstance(default, int):
        yield from (default // 2, default * 2, default - 1, default + 1)
    yield from (max(low, 0), max(low, 0) + 1, max(low, 1) * 2)
    if high < 10_000:
        yield int(high)


def numbers(field: FieldInfo, default: Any) -> Iterator[float]:
    low, high = bounds(field)
    if default:
        yield from (default / 2, default * 2, default / 16)
    if math.isfinite(low) and math.isfinite(high):
        yield from ((low + high) / 2, low + 0.1 * (high - low))
    yield from (max(low, 0) + 0.3, max(low, 0) + 1e-3)


def bounds(field: FieldInfo) -> tuple[Any, Any]:
    low: Any = -math.inf
    high: Any = math.inf
    for limit in field.metadata:
        low = limit.ge if isinstance(limit, Ge) else limit.gt if isinstance(limit, Gt) else low
        high = limit.le if isinstance(limit, Le) else limit.lt if isinstance(limit, Lt) else high
    return low, high
