"""Output directories: one writer at a time, nothing foreign is deleted, and a replaced directory is whole at any time.

A new directory is written in place. A directory that is replaced stays as it is while the new one is written beside it,
as `<name>.part`; at the end the two are exchanged, and the files of the old one are deleted. While a directory is
written, it holds `writing.json` (`write_lock`), which is deleted last.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from polymodal.checkpoint.directory_kinds import (
    WRITING,
    DirectoryKind,
    delete_owned,
    files_in,
    foreign_files,
    json_object,
    kind_of,
)
from polymodal.checkpoint.directory_swap import PART, finish_swap, swap
from polymodal.checkpoint.output_file import check_outside
from polymodal.checkpoint.write_lock import WriteLock
from polymodal.core.errors import ArtifactError, OutputError
from polymodal.core.writing import write_errors


@dataclass(frozen=True)
class OutputDirectory:
    """A directory that a command writes.

    path: as the user gave it
    kind: what the command writes
    overwrite: replace a directory of this kind
    resume: continue a directory of this kind that was not completed; a complete one is read, or extended
    inputs: files and folders that the command reads
    identity: the data of a run, by name (`training table`, ...); a run that is resumed must have the same
    """

    path: Path
    kind: DirectoryKind
    overwrite: bool = False
    resume: bool = False
    inputs: tuple[Path, ...] = ()
    identity: Mapping[str, str] = field(default_factory=dict)

    def check(self) -> None:
        """Check that the directory may be written, before the work begins.

        Raises:
            OutputError: see `writing`.
        """
        self._check_place()
        finish_swap(self.path.resolve(), self.kind)
        self._choose()

    def is_complete(self) -> bool:
        """Whether `resume` is set and the directory is complete, so that there is nothing to write."""
        self.check()
        return self._choose() is None

    @contextmanager
    def writing(self) -> Iterator[Path]:
        """Lock the directory, and yield the folder to write into: the directory itself, or a new one beside it that
        replaces it at the end.

        If the block raises an error, what was written is deleted, unless it can be resumed. What was there before is
        unchanged.

        Raises:
            OutputError: the path is a file or inside a directory of another command; the directory is being written by
                another process, holds other files, or is complete while neither `overwrite` nor `resume` is set.
            ArtifactError: the directory to resume belongs to other data.
        """
        self._check_place()
        target = self.path.resolve()
        finish_swap(target, self.kind)
        work = self._choose() or target
        created = not work.exists()
        with write_errors(self.path):
            work.mkdir(parents=True, exist_ok=True)
        lock = WriteLock(work)
        try:
            self._check_no_other_writer(target, work)
            self._prepare(work, lock)
        except BaseException:
            lock.release(keep=bool(lock.before))
            _remove_empty(work, created)
            raise
        try:
            yield work
            if work != target:
                self._replace(target, work, lock)
        except BaseException:
            is_exchanged = lock.folder != work
            keep = is_exchanged or self._can_resume(work) or (self.resume and kind_of(work) is None)
            if not keep and not self.resume:
                delete_owned(work, self.kind)
            lock.release(keep=keep)
            _remove_empty(work, created)
            raise
        lock.release()

    def _check_place(self) -> None:
        check_outside(self.path)
        if self.path.exists() and not self.path.is_dir():
            raise OutputError(f"{self.path} is a file: choose a directory")
        if self.overwrite and self.resume:
            raise OutputError(f"{self.path}: resume continues a run and overwrite starts again; set one of them")
        target = self.path.resolve()
        for given in self.inputs:
            if given.exists() and given.resolve().is_relative_to(target):
                what = "is" if given.resolve() == target else f"holds {given}, which is"
                raise OutputError(f"{self.path} {what} read by this command: choose another directory")

    def _choose(self) -> Path | None:
        """The folder to write into; None for a complete directory that is only read."""
        target = self.path.resolve()
        part = target.with_name(target.name + PART)
        found = kind_of(target) if target.is_dir() else None
        unfinished = is_unfinished(target)
        if not target.is_dir() or not any(target.iterdir()):
            return target
        if not unfinished or found is not None:
            self._check_kind(found)
        self._check_own(target)
        if (part / WRITING).is_file() and (self.resume or self.overwrite):
            self._check_own(part)
            return part
        if unfinished:
            if self.kind.is_extended and found is not None and self.overwrite:
                return self._beside(part)
            if self.resume or self.overwrite or not self._can_resume(target):
                return target
            raise OutputError(
                f"{self.path} is not empty: it holds an unfinished run; set resume (--resume) to continue it, set "
                "overwrite (--overwrite) to start again, or choose another directory"
            )
        if self.resume:
            return target if self.kind.is_extended else None
        if not self.overwrite:
            hint, flags = ("resume or ", "--resume, ") if self.kind.resumable else ("", "")
            raise OutputError(
                f"{self.path} is not empty: it holds a {self.kind.name}; set {hint}overwrite ({flags}--overwrite), or "
                "choose another directory"
            )
        return self._beside(part)

    def _beside(self, part: Path) -> Path:
        if part.exists() and (not part.is_dir() or any(part.iterdir())):
            raise OutputError(f"{part} is needed to replace {self.path}, and holds other files: move it")
        return part

    def _can_resume(self, target: Path) -> bool:
        return any((target / name).exists() for name in self.kind.resumable)

    def _check_kind(self, found: DirectoryKind | None) -> None:
        if found is None:
            raise OutputError(
                f"{self.path} is not empty, is not a {self.kind.name}, and is not overwritten: choose another directory"
            )
        if found is not self.kind:
            raise OutputError(
                f"{self.path} is not empty: it holds a {found.name}, and no {self.kind.name}; choose another directory"
            )

    def _check_own(self, folder: Path) -> None:
        foreign = foreign_files(folder, self.kind)
        if foreign and (self.overwrite or (not self.resume and kind_of(folder) is None)):
            listed = ", ".join(foreign[:3]) + (", ..." if len(foreign) > 3 else "")
            raise OutputError(
                f"{folder} is not empty and is not overwritten: it holds files that are not of a {self.kind.name} "
                f"({listed}); move them, or choose another directory"
            )

    def _check_no_other_writer(self, target: Path, work: Path) -> None:
        """Check that no process writes the directory in the other place: in place, or beside it."""
        other = target if work != target else target.with_name(target.name + PART)
        if (other / WRITING).is_file():
            WriteLock(other).release(keep=True)

    def _prepare(self, work: Path, lock: WriteLock) -> None:
        """Check the data of a run that is resumed, or delete the files of one that is not; write the note."""
        if self.resume and lock.before:
            self._check_identity(lock.before)
        elif not self.resume:
            for name in list(files_in(work)):
                if name != WRITING and self.kind.owns(name):
                    (work / name).unlink()
        lock.write({"kind": self.kind.name, "data": dict(self.identity)})

    def _check_identity(self, note: dict[str, Any]) -> None:
        data = note.get("data")
        check_same_data(self.path, dict(data) if isinstance(data, dict) else {}, self.identity, "an unfinished run")

    def _replace(self, target: Path, work: Path, lock: WriteLock) -> None:
        lock.write({"kind": self.kind.name, "data": dict(self.identity), "swap": True})
        with write_errors(self.path):
            swap(target, work)
            lock.move(target)
            finish_swap(target, self.kind, lock)


def check_same_data(path: Path, before: Mapping[str, str], now: Mapping[str, str], what: str) -> None:
    """Check that a run has the data of the run in `path`.

    Raises:
        ArtifactError: a table differs; the message names each.
    """
    differs = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if differs:
        raise ArtifactError(
            f"{path} holds {what} of other training rows or other data: another {' and another '.join(differs)}; use "
            "the data of that run, set overwrite to start again, or choose another directory"
        )


def is_unfinished(folder: Path) -> bool:
    """Whether a directory is being written, or was not completed."""
    return (folder / WRITING).is_file() and not json_object(folder / WRITING).get("swap")


def _remove_empty(folder: Path, created: bool) -> None:
    if created and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
