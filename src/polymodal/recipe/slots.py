"""A recipe field for a component: its name, or a mapping with its name and options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError
from pydantic_core import PydanticCustomError, core_schema

from polymodal.core.errors import RecipeError
from polymodal.core.option_docs import with_descriptions
from polymodal.core.options import Options
from polymodal.core.registry import components, find
from polymodal.recipe.validation_errors import Problem, problems


@dataclass(frozen=True)
class Slot:
    """Annotation of a recipe field for a component of `kind`; `default` is its name in a mapping without a name.

        fusion: Annotated[Options, Slot("fusion", default="attention")]

    Accepts `"gated"`, `{"name": "film", "dropout": 0.1}`, or an options object, and returns the options object.
    """

    kind: str
    default: str | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self.parse,
            serialization=core_schema.plain_serializer_function_ser_schema(lambda value: value.model_dump(mode="json")),
        )

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        known = self._known()
        full = [
            with_descriptions(options, handler(options.__pydantic_core_schema__), handler) for options in known.values()
        ]
        return {"anyOf": [{"type": "string", "enum": list(known)}, *full]}

    def parse(self, value: Any) -> Options:
        if isinstance(value, Options):
            if not self._is_registered(value):
                raise _invalid([Problem((), f"{type(value).__qualname__} is not the options class of a {self.kind}")])
            return value
        if isinstance(value, str):
            value = {"name": value}
        if not isinstance(value, dict):
            raise _invalid([Problem((), f"must be the name of a {self.kind}, or a mapping with its name and options")])
        name = value.get("name", self.default)
        if name is None:
            known = ", ".join(self._known())
            raise _invalid([Problem(("name",), f"the name of the {self.kind} is missing; choose from {known}")])
        try:
            options = self._options_of(str(name))
        except RecipeError as error:
            raise _invalid([Problem((), error.problem)]) from None
        try:
            return options.model_validate({**value, "name": name})
        except ValidationError as error:
            raise _invalid(problems(options, error)) from None

    def _is_registered(self, value: Options) -> bool:
        """Whether this is an object of the options class of a component of this kind."""
        try:
            return type(value) is self._options_of(value.name)
        except RecipeError:
            return False

    def _options_of(self, name: str) -> type[Options]:
        """The options class of a component, whose module is imported.

        Raises:
            RecipeError: there is no such component.
        """
        options: type[Options] = find(self.kind, name).Options
        return options

    def _known(self) -> dict[str, type[Options]]:
        return {name: component.Options for name, component in components(self.kind).items()}


def _invalid(found: list[Problem]) -> PydanticCustomError:
    return PydanticCustomError("component", "{summary}", {"summary": str(found[0].text), "problems": found})
