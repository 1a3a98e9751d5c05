"""The base of every options class, and fields whose default follows the size dial."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

Size = Literal["tiny", "small", "base"]


class StrictModel(BaseModel):
    """A pydantic model that refuses unknown keys; the string below a field is its documentation."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, validate_assignment=True)


class Options(StrictModel):
    """Options of one component; `name` says which. `component` is the class they belong to (set by the registry)."""

    component: ClassVar[type]
    name: str


def sized_field(tiny: Any, small: Any, base: Any, **constraints: Any) -> Any:
    """A field whose default is chosen by the recipe's `size`; a value that the user gives always wins."""
    return Field(default=tiny, json_schema_extra={"sizes": {"tiny": tiny, "small": small, "base": base}}, **constraints)


class SizedModel(StrictModel):
    """Options with fields made by `sized`. `at_size` fills those that the user left silent."""

    def at_size(self, size: Size) -> Self:
        """A copy in which every silent `sized` field has its value at `size` and counts as given."""
        values: dict[str, Any] = {}
        for name, field in type(self).model_fields.items():
            extra = field.json_schema_extra
            if name in self.model_fields_set or not isinstance(extra, dict) or "sizes" not in extra:
                continue
            values[name] = extra["sizes"][size]  # type: ignore[index, call-overload]
        return self.model_copy(update=values)


def explicit_values(value: Any) -> Any:
    """What was given of options, or of a mapping or list of them, as plain values; a component keeps its name."""
    if isinstance(value, BaseModel):
        said = {
            key: explicit_values(getattr(value, key))
            for key in type(value).model_fields
            if key in value.model_fields_set
        }
        return {"name": value.name, **said} if isinstance(value, Options) else said
    if isinstance(value, Mapping):
        return {key: explicit_values(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [explicit_values(one) for one in value]
    return value
