"""The pages of the Python interface: what `import polymodal` gives, and the data sets."""

from __future__ import annotations

import inspect
from dataclasses import is_dataclass
from typing import Any

import polymodal
from polymodal import datasets
from polymodal.generation.output import GenerationOutput
from polymodal.recipe.recipe import Recipe
from polymodal.workflows.cross_validation import CrossValidation

from .markdown import docstring, first_sentence, table
from .signatures import documented_members, signature

#: The names that a reader needs first, in the order of the page. All other public names follow in alphabetical order.
FIRST = ("fit", "load", "Model", "pretrain", "tune", "cross_validate", "compare", "ensemble", "Ensemble")


def python_page() -> str:
    public = [name for name in polymodal.__all__ if name != "__version__"]
    names = [name for name in FIRST if name in public] + [name for name in public if name not in FIRST]
    rows = [[f"[`polymodal.{name}`](#{_anchor(name)})", first_sentence(getattr(polymodal, name))] for name in names]
    lines = ["# Python", "", "`import polymodal` gives these names.", "", *table(["name", "what it is"], rows), ""]
    for name in names:
        lines += documented(name, getattr(polymodal, name), "polymodal")
    lines += ["## Returned objects", "", "Some functions return an object whose class has no name in `polymodal`.", ""]
    for returned in (CrossValidation, GenerationOutput):
        lines += documented(returned.__name__, returned, returned.__module__, level=3)
    return "\n".join(lines)


def datasets_page() -> str:
    names = list(datasets.__all__)
    rows = [[f"[`{name}`](#{_anchor(name)})", first_sentence(getattr(datasets, name))] for name in names]
    lines = ["# Data sets", "", docstring(datasets), "", *table(["function", "what it gives"], rows), ""]
    for name in names:
        lines += documented(name, getattr(datasets, name), "polymodal.datasets")
    return "\n".join(lines)


def documented(name: str, described: Any, module: str, level: int = 2) -> list[str]:
    """A heading, and the function or class with its members."""
    lines = [f"({_anchor(name)})=", f"{'#' * level} {name}", ""]
    if not inspect.isclass(described):
        return lines + _directive("function", f"{module}.{name}{signature(described)}", docstring(described))
    if described is Recipe:
        text = docstring(described) + "\n\nSections and keys: [Recipe](recipe.md)."
        lines += _directive("class", f"{module}.{name}(**sections)", text)
    else:
        shown = "" if is_dataclass(described) else signature(described)
        lines += _directive("class", f"{module}.{name}{shown}", docstring(described))
    for member_name, member in documented_members(described):
        full_name = f"{module}.{name}.{member_name}"
        lines += [f"{'#' * (level + 1)} {name}.{member_name}", ""]
        if isinstance(member, property):
            lines += _directive("property", full_name, docstring(member))
        else:
            kind = "classmethod" if isinstance(member, classmethod) else "method"
            function = getattr(member, "__func__", member)
            lines += _directive(kind, full_name + signature(function), docstring(member))
    return lines


def _directive(kind: str, declaration: str, text: str) -> list[str]:
    return [f":::::{{py:{kind}}} {declaration}", "", text, ":::::", ""]


def _anchor(name: str) -> str:
    """An anchor without capitals, since `ensemble` and `Ensemble` are both public."""
    kind = "class" if name[0].isupper() else "function"
    return f"python-{kind}-{name.lower().replace('_', '-')}"
