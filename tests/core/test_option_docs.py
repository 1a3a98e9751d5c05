"""Properties of the documentation of options."""

from __future__ import annotations

from pydantic import BaseModel

from polymodal.core.option_docs import documented_fields
from polymodal.core.options import StrictModel


class Base(StrictModel):
    first: int = 1
    """The first,
    over two lines."""
    second: int = 2
    third: BaseModel | None = None
    "not in triple quotes"


class Derived(Base):
    second: int = 3
    """Another second."""
    first: int = 4


def test_the_string_below_a_field_is_its_description() -> None:
    found = {name: field.description for name, field in documented_fields(Base).items()}
    assert found == {"first": "The first,\nover two lines.", "second": None, "third": "not in triple quotes"}


def test_a_field_that_is_defined_again_has_its_own_description() -> None:
    found = {name: field.description for name, field in documented_fields(Derived).items()}
    assert found == {"first": None, "second": "Another second.", "third": "not in triple quotes"}


def test_the_json_schema_has_the_descriptions() -> None:
    assert Base.model_json_schema()["properties"]["first"]["description"] == "The first,\nover two lines."
    assert "description" not in Derived.model_json_schema()["properties"]["first"]
