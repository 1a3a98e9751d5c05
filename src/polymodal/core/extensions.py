"""Components of other installed packages, found by their entry points without an import.

An entry point of the group `polymodal.components` is called `KIND.NAME` and refers to a class with `@register`:

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

    package: the distribution that declares it, with its version, such as "my-package 1.2"
    """

    kind: str
    name: str
    package: str
    entry_point: EntryPoint

    def __str__(self) -> str:
        return f"package {self.package}, entry point {self.entry_point.name} = {self.entry_point.value}"


@dataclass(frozen=True)
class BrokenExtension:
    """An extension that cannot be used, with the reason."""

    extension: Extension
    reason: str

    def __str__(self) -> str:
        return f"{self.extension}: {self.reason}"


@cache
def extensions() -> tuple[Extension, ...]:
    """All declared components, ordered by package and name."""
    declared = []
    for point in entry_points(group=GROUP):
        kind, _, name = point.name.partition(".")
        package = f"{point.dist.name} {point.dist.version}" if point.dist is not None else "of unknown name"
        declared.append(Extension(kind, name, package, point))
    return tuple(sorted(declared, key=lambda extension: (extension.package, extension.entry_point.name)))
