"""Base classes of options, and fields whose default depends on the recipe key `size`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationInfo,
    field_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from polymodal.core.argument_types import check_arguments
from polymodal.core.errors import RecipeError, did_you_mean
from polymodal.core.option_docs import with_descriptions
from polymodal.core.strict_types import checked_kind, without_repeats

Size = Literal["tiny", "small", "base"]
#: Largest random seed: that of numpy and scikit-learn.
MAX_SEED = 2**32 - 1
#: Names without repetition.
Names = Annotated[list[str], AfterValidator(without_repeats)]


class StrictModel(BaseModel):
    """A pydantic model that rejects unknown keys, true and false for numbers, numbers for true and false, and numbers
    that are not finite. The string below a field is its documentation (`core.option_docs`)."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True, allow_inf_nan=False)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return with_descriptions(cls, handler(schema), handler)

    @field_validator("*", mode="before")
    @classmethod
    def _check_kinds(cls, value: Any, info: ValidationInfo) -> Any:
        return checked_kind(value, cls.model_fields[str(info.field_name)].annotation)

    @check_arguments
    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with the values of `update`, which must name fields; pydantic itself would accept any key here."""
        unknown = sorted(set(update or {}) - type(self).model_fields.keys())
        if unknown:
            hint = did_you_mean(unknown[0], type(self).model_fields)
            raise RecipeError("update", f"{type(self).__qualname__} has no key {unknown[0]!r}; {hint}")
        return super().model_copy(update=update, deep=deep)


class Options(StrictModel):
    """Options of one component. `name` is its name; `component` is its class, set by the registry."""

    component: ClassVar[type]
    name: str


def sized_field(tiny: Any, small: Any, base: Any, **constraints: Any) -> Any:
    """A field whose default depends on the recipe key `size`. A given value takes precedence."""
    return Field(default=tiny, json_schema_extra={"sizes": {"tiny": tiny, "small": small, "base": base}}, **constraints)


class SizedModel(StrictModel):
    """Options with fields from `sized_field`. `at_size` fills the unset ones."""

    @check_arguments
    def at_size(self, size: Size) -> Self:
        """A copy in which each unset `sized_field` has its value at `size` and counts as given."""
        values: dict[str, Any] = {}
        for name, field in type(self).model_fields.items():
            extra = field.json_schema_extra
            if name in self.model_fields_set or not isinstance(extra, dict) or "sizes" not in extra:
                continue
            values[name] = extra["sizes"][size]  # type: ignore[index, call-overload]
        return self.model_copy(update=values)


def explicit_values(value: Any) -> Any:
    """The explicitly set values of options, or of a mapping or list of options; a component keeps its name."""
    if isinstance(value, BaseModel):
        chosen = {
            key: explicit_values(getattr(value, key))
            for key in type(value).model_fields
            if key in value.model_fields_set
        }
        return {"name": value.name, **chosen} if isinstance(value, Options) else chosen
    if isinstance(value, Mapping):
        return {key: explicit_values(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [explicit_values(inner) for inner in value]
    return value
