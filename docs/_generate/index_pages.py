"""The first page of the reference."""

from __future__ import annotations

from polymodal.core.registry import KINDS, components

from .component_pages import TITLES

HEAD = """# Reference

Every option has its default, its range and its effect here. These pages are generated from the code.

- [Python](python.md): the public names, beginning with `fit`, `load` and `Model`
- [Commands](commands.md): the command line
- [Recipe](recipe.md): every section and key; {download}`JSON schema <recipe.schema.json>`
- [Data sets](datasets.md): generated and packaged data sets, for examples and tests
- [Errors](errors.md): what Polymodal raises on purpose

## Components

A recipe selects components by name. `polymodal list` prints the same names.
"""


def index_page() -> str:
    lines = [HEAD]
    for kind in KINDS:
        page, title, _ = TITLES[kind]
        names = ", ".join(f"[`{name}`]({page}.md#{name})" for name in components(kind))
        lines += [f"**[{title}]({page}.md)**: {names}", ""]
    pages = ["python", "commands", "recipe", *(TITLES[kind][0] for kind in KINDS), "datasets", "errors"]
    return "\n".join([*lines, "```{toctree}", ":hidden:", "", *pages, "```", ""])
