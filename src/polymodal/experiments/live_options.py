"""Refusal of options that change nothing in their run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from polymodal.core.errors import RecipeError
from polymodal.core.needs import Needs
from polymodal.recipe.run_context import RunContext


def check_live_options(run: RunContext, varied: frozenset[str] = frozenset()) -> None:
    """Check that every option that the user set has an effect in this run.

    An option with its default value is accepted anywhere, so a complete recipe may be used again. A condition is
    declared beside its option, by an annotation `Needs`.

    varied: recipe paths that a search changes; options beside and below them are not checked

    Raises:
        RecipeError: an option has no effect; the message states what it would need.
    """
    dead = [
        (path, condition)
        for path, condition in _dead_options("", run.given, run.recipe, run)
        if not any(path.startswith(one.rpartition(".")[0]) for one in varied)
    ]
    if dead:
        lines = [f"it has no effect in this run, because it needs {condition}; remove it" for _, condition in dead]
        more = "".join(f"\n{path}: {line}" for (path, _), line in zip(dead[1:], lines[1:], strict=True))
        raise RecipeError(dead[0][0], lines[0] + more)


def _dead_options(path: str, given: BaseModel, complete: Any, run: RunContext) -> Iterator[tuple[str, str]]:
    """The path and the condition of each option without an effect.

    given: options as the user set them; complete: the same options in the complete recipe
    """
    own = complete if type(complete) is type(given) else given
    for name, field in type(given).model_fields.items():
        if name not in given.model_fields_set:
            continue
        value, inner_path = getattr(given, name), f"{path}.{name}" if path else name
        if value != _default(field, run.recipe.size):
            for need in field.metadata:
                if isinstance(need, Needs) and not need.holds(own, run):
                    yield inner_path, need.condition
        for key, inner, completed in _nested(value, getattr(own, name)):
            yield from _dead_options(f"{inner_path}{key}", inner, completed, run)


def _default(field: Any, size: str) -> Any:
    """The default of a field, at the size of the recipe."""
    extra = field.json_schema_extra
    if isinstance(extra, dict) and "sizes" in extra:
        return extra["sizes"][size]
    return field.get_default(call_default_factory=True)


def _nested(value: Any, completed: Any) -> Iterator[tuple[str, BaseModel, Any]]:
    """The options inside of a value: their key, as given, and in the complete recipe."""
    if isinstance(value, BaseModel):
        yield "", value, completed
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            if isinstance(inner, BaseModel):
                yield f".{key}", inner, completed.get(key) if isinstance(completed, Mapping) else None
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            if isinstance(inner, BaseModel):
                has_item = isinstance(completed, list) and index < len(completed)
                yield f".{index}", inner, completed[index] if has_item else None
