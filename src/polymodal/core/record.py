"""Records: typed values that are written as JSON and read back. An unknown key is an error."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from polymodal.core.errors import ArtifactError

T = TypeVar("T")

#: Configuration of the pydantic dataclasses of a record.
RECORD_CONFIG = ConfigDict(extra="forbid")


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


#: A finite number above 0.
PositiveFinite = Annotated[float, Field(gt=0, allow_inf_nan=False)]
#: A finite number, or None in place of NaN and infinity, which JSON does not have.
FiniteOrNone = Annotated[float | None, BeforeValidator(_finite)]


def record_json(record: Any) -> dict[str, Any]:
    """A record as JSON-ready values, with every key."""
    plain: dict[str, Any] = TypeAdapter(type(record)).dump_python(record, mode="json")
    return plain


def read_record(kind: type[T], value: Any, file: Path) -> T:
    """The record of type `kind` from the JSON `value` of a file. Missing keys have their default.

    Raises:
        ArtifactError: a key is unknown or has a wrong type; the message gives the file and the key.
    """
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        unknown = first["type"] == "unexpected_keyword_argument"
        problem = "there is no such key" if unknown else first["msg"]
        raise ArtifactError(f"{file} is not a valid {kind.__name__}: {key or 'the whole file'}: {problem}") from None
