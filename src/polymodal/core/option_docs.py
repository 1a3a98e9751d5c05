"""The documentation of options: the string below each field, read from the source when it is needed.

Pydantic can read it when a class is made (`use_attribute_docstrings`), which takes several milliseconds for each class,
in every process. Only the reference and the JSON schema need it.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from functools import cache

from pydantic import BaseModel, GetJsonSchemaHandler
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue


def documented_fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields of a model by name, with the string below each as its `description`.

    Example:
        >>> from polymodal.recipe.data import DataOptions
        >>> documented_fields(DataOptions)["strict"].description.split()[0]
        'Stop'
    """
    texts: dict[str, str | None] = {}
    for base in reversed(model.__mro__):
        if issubclass(base, BaseModel) and base is not BaseModel:
            texts |= _strings_below(base)
    for name, field in model.model_fields.items():
        if field.description is None:
            field.description = texts.get(name)
    return model.model_fields


def with_descriptions(
    model: type[BaseModel], schema: JsonSchemaValue, handler: GetJsonSchemaHandler
) -> JsonSchemaValue:
    """The JSON schema of a model, with the descriptions of its fields."""
    properties = handler.resolve_ref_schema(schema).get("properties", {})
    for name, field in documented_fields(model).items():
        if name in properties and field.description:
            properties[name].setdefault("description", field.description)
    return schema


@cache
def _strings_below(model: type[BaseModel]) -> dict[str, str | None]:
    """The string below each annotated name of a class; None for a name without one."""
    try:
        source = textwrap.dedent(inspect.getsource(model))
    except OSError:  # a class of an interactive session has no file
        return {}
    (definition,) = ast.parse(source).body
    assert isinstance(definition, ast.ClassDef)
    found: dict[str, str | None] = {}
    for statement, below in zip(definition.body, [*definition.body[1:], None], strict=True):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            found[statement.target.id] = _text_of(below)
    return found


def _text_of(statement: ast.stmt | None) -> str | None:
    """The text of a statement that is only a string."""
    value = statement.value if isinstance(statement, ast.Expr) else None
    text = value.value if isinstance(value, ast.Constant) else None
    return inspect.cleandoc(text) if isinstance(text, str) else None
