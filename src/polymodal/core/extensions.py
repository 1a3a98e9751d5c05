"""Components that other installed packages bring, as their entry points declare them; nothing is imported to know that.

An entry point of the group `polymodal.components` is called `KIND.NAME` and names a class with `@register`:

    [project.entry-points."polymodal.components"]
    "fusion.squares" = "my_package.fusion:Squares"
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points

GROUP = "polymodal.components"


@dataclass(frozen=True)
class Extension:
    """One declared component.

    package: the distribution that declares it and its version, as in "my-package 1.2"
    """

    kind: str
    name: str
    package: str
    entry_point: EntryPoint

    def __str__(self) -> str:
        return f"package {self.package}, entry point {self.entry_point.name} = {self.entry_point.value}"


@dataclass(frozen=True)
class BrokenExtension:
    """An extension that cannot be used, and why."""

    extension: Extension
    reason: str

    def __str__(self) -> str:
        return f"{self.extension}: {self.reason}"


@cache
def extensions() -> tuple[Extension, ...]:
    """Every declared component, ordered by package and name."""
    found = []
    for point in entry_points(group=GROUP):
        kind, _, name = point.name.partition(".")
        package = f"{point.dist.name} {point.dist.version}" if point.dist is not None else "of unknown name"
        found.append(Extension(kind, name, package, point))
    return tuple(sorted(found, key=lambda one: (one.package, one.entry_point.name)))
