"""Generates `docs/reference/` from the code: components, recipe keys, commands, Python names, errors, JSON schema.

Sphinx calls `write_reference` at the start of each build (`docs/conf.py`). The same code gives the same bytes. Nothing
below `docs/reference/` is edited by hand or kept in git.
"""

from __future__ import annotations

import json
from pathlib import Path

from polymodal.core.registry import KINDS
from polymodal.recipe.recipe import Recipe

from .command_pages import commands_page
from .component_pages import TITLES, component_page
from .error_pages import errors_page
from .index_pages import index_page
from .python_pages import datasets_page, python_page
from .recipe_pages import recipe_page

__all__ = ["TITLES", "reference_files", "write_reference"]


def reference_files() -> dict[str, str]:
    """The text of each file of the reference, by file name."""
    pages = {
        "index.md": index_page(),
        "python.md": python_page(),
        "commands.md": commands_page(),
        "recipe.md": recipe_page(),
        **{f"{TITLES[kind][0]}.md": component_page(kind) for kind in KINDS},
        "datasets.md": datasets_page(),
        "errors.md": errors_page(),
    }
    schema = json.dumps(Recipe.model_json_schema(), indent=2, ensure_ascii=False, sort_keys=True)
    return {**pages, "recipe.schema.json": schema + "\n"}


def write_reference(folder: Path) -> None:
    """Write the whole reference into `folder`.

    A file whose text is unchanged keeps its modification time, so that Sphinx does not read it again. Files that the
    reference no longer has are deleted.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = reference_files()
    for path in folder.iterdir():
        if path.name not in files:
            path.unlink()
    for name, text in files.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
