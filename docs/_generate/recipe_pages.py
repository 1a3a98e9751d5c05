"""The page of the recipe: every section and key."""

from __future__ import annotations

from pydantic import BaseModel

from polymodal.core.option_docs import documented_fields
from polymodal.recipe.recipe import Recipe

from .markdown import docstring
from .options_table import nested_section, options_table

HEAD = """# Recipe

A recipe is a mapping in YAML or JSON. Every key is optional. A key that is left out is inferred from the data, or its
default follows from `size`. An unknown key is an error that names the nearest known key.

Three keys have a short form: an input may be only its modality (`question: text`), an output only its task
(`price: regression`), and a component only its name (`fusion: gated`).

[Recipes and overrides](../how-to/recipes.md) shows how to use recipes. For editors there is a JSON schema:
{download}`recipe.schema.json`.
"""


def recipe_page() -> str:
    lines = [HEAD]
    pending: list[tuple[str, type[BaseModel]]] = [("", Recipe)]
    while pending:
        path, model = pending.pop(0)
        sections = _sections(path, model)
        links = {key: f"#{anchor(inner_path)}" for key, inner_path, _ in sections}
        lines += [f"({anchor(path)})=", f"## `{path}`" if path else "## Top level", ""]
        lines += [docstring(model), "", options_table(model, links), ""]
        pending += [(inner_path, section) for _, inner_path, section in sections]
    return "\n".join(lines)


def anchor(path: str) -> str:
    """The anchor of a section: `training.feature_cache` -> `recipe-training-feature-cache`."""
    return "-".join(["recipe", *path.replace("<name>", "name").replace("_", "-").split(".")]).rstrip("-")


def _sections(path: str, model: type[BaseModel]) -> list[tuple[str, str, type[BaseModel]]]:
    """Key, path and class of every section inside of `model`."""
    sections = []
    for key, field in documented_fields(model).items():
        section, several = nested_section(field.annotation)
        if section is not None:
            inner_path = ".".join([*([path] if path else []), key, *(["<name>"] if several else [])])
            sections.append((key, inner_path, section))
    return sections
