"""Readable validation errors: the recipe path, the problem, and the nearest valid key."""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from polymodal.core.errors import RecipeError, did_you_mean

#: The name of a union branch in a location from pydantic, such as `literal['auto']`.
_BRANCH = re.compile(r"[a-z-]+\[.*\]", re.DOTALL)


@dataclass(frozen=True)
class Problem:
    """A problem at a path of recipe keys."""

    path: tuple[str | int, ...]
    text: str


def problems(model: type[BaseModel], error: ValidationError) -> list[Problem]:
    """All problems of a failed validation of `model`, including those in component options."""
    found: list[Problem] = []
    for item in error.errors(include_url=False):
        place = item["loc"]
        is_key = item["type"] == "extra_forbidden"  # then the last part is a key, whatever it looks like
        path = (*_keys(model, place[:-1]), place[-1]) if is_key else _keys(model, place)
        context = item.get("ctx", {})
        if "problems" in context:
            found += [Problem(path + inner.path, inner.text) for inner in context["problems"]]
        elif item["type"] == "extra_forbidden":
            owner = _model_at(model, path[:-1])
            found.append(Problem(path, f"there is no such key; {did_you_mean(str(path[-1]), owner.model_fields)}"))
        else:
            given = "" if isinstance(item["input"], dict) else f" (given: {item['input']!r})"
            found.append(Problem(path, item["msg"].removeprefix("Value error, ") + given))
    return found


def recipe_error(model: type[BaseModel], error: ValidationError) -> RecipeError:
    """The `RecipeError` for a failed validation, with one problem per line."""
    first, *rest = problems(model, error)
    more = "".join(f"\n{_dotted(problem.path)}: {problem.text}" for problem in rest)
    return RecipeError(_dotted(first.path), first.text + more)


def _keys(model: type[BaseModel], location: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """A location from pydantic without the names of union branches (`int`, `literal['auto']`)."""
    kept: tuple[str | int, ...] = ()
    named = False  # whether the union branch of the last key was passed
    for part in location:
        field = _model_at(model, kept[:-1]).model_fields.get(str(kept[-1])) if kept else None
        branch = field is not None and _is_union(field.annotation) and not named
        named = isinstance(part, str) and (branch or _BRANCH.fullmatch(part) is not None)
        if not named:
            kept = (*kept, part)
    return kept


def _is_union(annotation: Any) -> bool:
    """Whether an annotation is a union of two or more types, not counting None."""
    choices = [kind for kind in get_args(annotation) if kind is not type(None)]
    return get_origin(annotation) in (Union, UnionType) and len(choices) > 1


def _dotted(path: tuple[str | int, ...]) -> str:
    return ".".join(str(part) for part in path)


def _model_at(model: type[BaseModel], path: tuple[str | int, ...]) -> type[BaseModel]:
    """The model at the end of a path; a key of a mapping of models leads to the model of its values."""
    for part in path:
        field = model.model_fields.get(str(part))
        if field is not None:
            inner = _models(field.annotation)
            if inner:
                model = inner[0]
    return model


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models(argument)]
