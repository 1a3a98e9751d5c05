"""The command line in this process: what a test sees of a command, without the seconds in which torch is imported."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

import pytest

from polymodal.cli import main


@dataclass(frozen=True)
class Done:
    """A command that has ended: its exit status and all that was written to file descriptors 1 and 2."""

    returncode: int
    stdout: str
    stderr: str


def run_command(*arguments: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> Done:
    """Run `polymodal` with these arguments as its entry point does.

    What libraries in C write is caught too. The exit status, the working directory, variables of the environment,
    and warnings are those of a process of its own; an unexpected exception is raised.
    """
    status = 0
    with TemporaryFile() as out, TemporaryFile() as error, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["polymodal", *arguments])
        if cwd is not None:
            patch.chdir(cwd)
        for name, value in (env or {}).items():
            patch.setenv(name, value)
        with warnings.catch_warnings(), _written_to(1, "stdout", out), _written_to(2, "stderr", error):
            try:
                main()
            except SystemExit as ended:
                status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        return Done(status, _text(out), _text(error))


@contextmanager
def _written_to(descriptor: int, name: str, file: BinaryIO) -> Iterator[None]:
    """The stream `sys.<name>` and what is behind it write to `file`."""
    getattr(sys, name).flush()
    kept = os.dup(descriptor)
    os.dup2(file.fileno(), descriptor)
    try:
        with pytest.MonkeyPatch.context() as patch, open(descriptor, "w", encoding="utf-8", closefd=False) as stream:
            patch.setattr(sys, name, stream)
            yield
    finally:
        os.dup2(kept, descriptor)
        os.close(kept)


def _text(file: BinaryIO) -> str:
    file.seek(0)
    return file.read().decode()
