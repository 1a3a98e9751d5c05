"""Records: typed values that are written as JSON and read back to equal ones. An unknown key is an error."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, ConfigDict, TypeAdapter, ValidationError

from polymodal.core.errors import ArtifactError

T = TypeVar("T")

#: The configuration of the pydantic dataclasses that a record is made of.
RECORD_CONFIG = ConfigDict(extra="forbid")


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


#: A number, or None for one that is not finite, which JSON does not know.
FiniteOrNone = Annotated[float | None, BeforeValidator(_finite)]


def record_json(record: Any) -> dict[str, Any]:
    """A record as JSON-ready values, with every key."""
    plain: dict[str, Any] = TypeAdapter(type(record)).dump_python(record, mode="json")
    return plain


def read_record(kind: type[T], value: Any, file: Path) -> T:
    """The record of `kind` that the JSON `value` of a file holds; keys that are not there have their default.

    Raises:
        ArtifactError: a key is not known or has another type; the message names file and key.
    """
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(place) for place in first["loc"])
        unknown = first["type"] == "unexpected_keyword_argument"
        problem = "there is no such key" if unknown else first["msg"]
        raise ArtifactError(f"{file} is no {kind.__name__}: {key or 'the whole file'}: {problem}") from None
