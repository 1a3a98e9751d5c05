"""The root folder of media paths in training, as users are told of it later."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polymodal.core.errors import ArtifactError
from polymodal.data.objects import ObjectPath
from polymodal.data.table.table import Table

#: The folders that a saved root may be relative to. `absolute`: it is not relative.
BASES = ("table", "working_folder", "absolute")


@dataclass(frozen=True)
class TrainingRoot:
    """The root folder of the training table: relative to the folder of the table file, or, for a table in memory, to
    the working folder. It is absolute only if the table has no file and the root is outside the working folder.

    It is never used to read files: a model directory may be on another machine, and a service must not read a folder
    that its operator did not name.

    path: with forward slashes
    base: one of `BASES`
    """

    path: str
    base: str

    @classmethod
    def of(cls, table: Table) -> TrainingRoot | None:
        """The root of a table; None without a root, or if the parts of a concatenated table have different ones."""
        roots = {cls._of_part(part) for part in getattr(table, "tables", [table])}
        return roots.pop() if len(roots) == 1 else None

    @classmethod
    def _of_part(cls, table: Table) -> TrainingRoot | None:
        if table.root is None:
            return None
        if isinstance(table.root, ObjectPath):
            return cls(".", "table") if table.root == table.folder else cls(str(table.root), "absolute")
        if isinstance(table.folder, Path):
            return cls(Path(os.path.relpath(table.root.resolve(), table.folder.resolve())).as_posix(), "table")
        if not table.root.is_absolute():
            return cls(table.root.as_posix(), "working_folder")
        if table.root.resolve().is_relative_to(Path.cwd().resolve()):
            return cls(table.root.resolve().relative_to(Path.cwd().resolve()).as_posix(), "working_folder")
        return cls(table.root.as_posix(), "absolute")

    @classmethod
    def from_dict(cls, state: Any) -> TrainingRoot:
        """Read what `asdict` gives.

        Raises:
            ArtifactError: it has another form.
        """
        known = isinstance(state, dict) and state.keys() == {"path", "base"} and state["base"] in BASES
        if not known or not isinstance(state["path"], str):
            raise ArtifactError(f"preparation.json: the root is invalid: {str(state)[:200]}")
        return cls(**state)

    def advice(self, table: Table) -> str:
        """What to do about paths of `table` that cannot be read; "" if there is nothing to tell."""
        if table.root is None:
            if self.base == "table":
                where = "" if self.path == "." else f"{self.path!r}, relative to "
                return f"in training, the root was {where}the folder of the table"
            return f"in training, root={self.path!r} was given"
        if self.base != "table" or self.path == "." or table.root != table.folder:
            return ""
        if not isinstance(table.folder, Path):
            return f"in training, the root was {self.path!r}, relative to the folder of the table"
        folder = os.path.normpath(table.folder / self.path)
        return f"in training, the root was {self.path!r}, relative to the folder of the table: pass root={folder!r}"
