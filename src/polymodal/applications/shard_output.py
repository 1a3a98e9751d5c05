"""The output of a command that works shard by shard: a folder with one file for each shard of a table."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import xxhash

from polymodal.checkpoint.output_file import check_outside
from polymodal.core.errors import OutputError
from polymodal.data.objects import as_root
from polymodal.data.shard_folder import ShardFolder
from polymodal.data.table.table import Table
from polymodal.engines.shards import Shard


@dataclass(frozen=True)
class ShardOutput:
    """What the folder holds.

    content: the content of the shards, for messages
    suffix: of the files of shards
    lists: the files that are written when all shards are there
    made_from: what the shards depend on, for messages
    kept: the other files
    """

    content: str
    suffix: str
    lists: tuple[str, ...]
    made_from: str
    kept: tuple[str, ...] = ()

    def folder(self, out: Path | str) -> ShardFolder:
        """The folder of an argument of a user: on this machine, or in an object store.

        Raises:
            OutputError: the folder belongs to a model or to something else.
        """
        folder = as_root(out)
        assert folder is not None
        if isinstance(folder, Path):
            check_outside(folder)
            return ShardFolder(folder.resolve())
        return ShardFolder(folder)

    def shards(self, table: Table, rows: int, key: str) -> list[Shard]:
        """The shards of a table.

        rows: rows of a shard at most
        key: what the content of all shards depends on
        """
        bounds = table.shard_bounds(rows)
        return [
            Shard(number, start, stop, f"part-{number:05d}-{content_name(f'{key} {start} {stop}')}{self.suffix}")
            for number, (start, stop) in enumerate(itertools.pairwise(bounds))
        ]

    def check(self, folder: ShardFolder, wanted: Sequence[Shard], overwrite: bool) -> set[str]:
        """The names of the shards that are there. Shards of something else are deleted with `overwrite`.

        Raises:
            OutputError: there are other files, or shards of something else and `overwrite` is not set.
        """
        names, own = set(folder.names()), {shard.name for shard in wanted}
        shards = {name for name in names if name.startswith("part-") and name.endswith(self.suffix)}
        self.check_foreign(folder)
        others = sorted(shards - own)
        if others and not overwrite:
            raise OutputError(
                f"{folder.root} holds shards of another {self.made_from} ({others[0]}): set overwrite (--overwrite) to "
                "delete them, or choose another directory"
            )
        for name in [*others, *(sorted(names & set(self.lists)) if others else [])]:
            folder.delete(name)
        return shards & own

    def check_foreign(self, folder: ShardFolder) -> None:
        """Check that the folder holds no other files.

        Raises:
            OutputError: it does.
        """
        names = {name for name in folder.names() if not _is_unfinished(name) and name not in (*self.lists, *self.kept)}
        foreign = sorted(name for name in names if not (name.startswith("part-") and name.endswith(self.suffix)))
        if foreign:
            raise OutputError(
                f"{folder.root} holds files that are no shards of {self.content} ({', '.join(foreign[:3])}): choose "
                "another directory"
            )


def content_name(text: str) -> str:
    """A short hash of what a file depends on, for its name."""
    return xxhash.xxh3_64_hexdigest(text.encode())


def delete_unfinished(folder: ShardFolder) -> None:
    """Delete the files that processes which were killed have left. Other processes must not write into the folder."""
    for name in filter(_is_unfinished, folder.names()):
        folder.delete(name)


def _is_unfinished(name: str) -> bool:
    """Whether a file was being written by a process that was killed, or is being written by another one."""
    return name.startswith(".") and name.endswith(".part")
