"""Typed errors. Each says what is wrong, where it is, and what to do about it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PolymodalError(Exception):
    """Base of every error that Polymodal raises on purpose; the command line prints it without a traceback."""


class RecipeError(PolymodalError):
    """A recipe key is unknown, has a wrong value, or names something that is not there.

    `path` is the dotted recipe key, as in `inputs.image.encoder.layers`.
    """

    def __init__(self, path: str, problem: str) -> None:
        self.path, self.problem = path, problem
        super().__init__(f"{path}: {problem}" if path else problem)

    def with_prefix(self, path: str) -> RecipeError:
        """The same problem with `path` before its own: components know only their own keys."""
        return RecipeError(".".join(filter(None, [path, self.path])), self.problem)


class DataError(PolymodalError):
    """A table, or a cell in it, cannot be used.

    `row` counts from 0 in the table as it was given (without a header line); `file` is the media file or the table.
    """

    def __init__(
        self, problem: str, *, row: int | None = None, column: str | None = None, file: str | None = None
    ) -> None:
        self.row, self.column, self.file = row, column, file
        place = [f"row {row}" if row is not None else "", f"column {column!r}" if column else "", file or ""]
        where = ", ".join(part for part in place if part)
        super().__init__(f"{where}: {problem}" if where else problem)


class ArtifactError(PolymodalError):
    """A model directory is incomplete, altered, or was written by an incompatible version."""


class TrainingError(PolymodalError):
    """Training cannot go on: a tensor is no longer finite, or there is nothing to learn from."""


class MissingExtraError(PolymodalError):
    """An optional dependency is needed; the message names the extra that brings it."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {package}: pip install 'polymodal[{extra}]'")


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """A hint for an unknown `word`: the closest of `choices`, or all of them when none is close."""
    known = sorted(choices)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    return "choose from " + ", ".join(known) if known else "there is nothing to choose from"
