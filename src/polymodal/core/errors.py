"""Typed errors. Each message states what is wrong, where it is, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from polymodal.core.formatting import escape_controls


class PolymodalError(Exception):
    """Base of all errors that Polymodal raises on purpose. The command line prints them without a traceback.

    Control characters of cells and file names are escaped in the message.

    Example:
        >>> import polymodal
        >>> from polymodal.core.errors import PolymodalError
        >>> try:
        ...     polymodal.load("no-such-folder")
        ... except PolymodalError as error:
        ...     print(type(error).__name__)
        ArtifactError
    """

    def __str__(self) -> str:
        return escape_controls(super().__str__(), keep="\n\t")


class RecipeError(PolymodalError):
    """A recipe key is unknown, has a wrong value, or refers to something that does not exist.

    path: the dotted recipe key, such as `inputs.image.encoder.num_layers`
    problem: the message without the key
    """

    def __init__(self, path: str, problem: str) -> None:
        self.path, self.problem = path, problem
        super().__init__(f"{path}: {problem}" if path else problem)

    def with_prefix(self, path: str) -> RecipeError:
        """The same error with `path` before its own key, because a component knows only its own keys."""
        return RecipeError(".".join(filter(None, [path, self.path])), self.problem)


class DataError(PolymodalError):
    """A table, or a cell in it, cannot be used.

    problem: the message without the place
    row: row number in the given table, from 0 without the header line
    file: the media file or the table
    """

    def __init__(
        self, problem: str, *, row: int | None = None, column: str | None = None, file: str | None = None
    ) -> None:
        self.problem, self.row, self.column, self.file = problem, row, column, file
        where = escape_controls(file or "")
        parts = [f"row {row}" if row is not None else "", f"column {column!r}" if column else "", where]
        location = ", ".join(part for part in parts if part)
        super().__init__(f"{location}: {problem}" if location else problem)


class ArtifactError(PolymodalError):
    """A model directory is incomplete, altered, or was written by an incompatible version."""


class OutputError(PolymodalError):
    """An output cannot be written, would replace something that is to be kept, or is being written by another process.

    What was there before is unchanged.
    """


class TrainingError(PolymodalError):
    """Training cannot continue: a tensor is not finite, or there is nothing to train."""


class MissingExtraError(PolymodalError):
    """An optional dependency is missing. The message gives the command that installs it."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        command = f"pip install 'polymodal[{extra}]', or in a clone of Polymodal: pip install -e '.[{extra}]'"
        super().__init__(f"{purpose} needs {package}: {command}")


class PolymodalWarning(UserWarning):
    """Base of all warnings of Polymodal. The command line prints them as notes."""


def did_you_mean(word: str, choices: Iterable[str], otherwise: str = "") -> str:
    """A hint for an unknown `word`: the closest of `choices`, or all of them if none is close.

    otherwise: the hint if none is close, in place of all of them

    Parts of a choice and its initials count as well, so `lr` and `rate` are close to `learning_rate`.

    >>> did_you_mean("gatd", ["gated", "concat"])
    "did you mean 'gated'?"
    >>> did_you_mean("lr", ["epochs", "learning_rate"])
    "did you mean 'learning_rate'?"
    """
    known = sorted(choices)
    forms = {name: name for name in known}
    for name in known:
        parts = name.split("_")
        if len(parts) > 1:
            for form in (*parts, "".join(part[:1] for part in parts)):
                forms.setdefault(form, name)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    close = close or difflib.get_close_matches(word, forms, n=1, cutoff=0.6)
    close = close or difflib.get_close_matches(word, forms, n=1, cutoff=0.5)
    if close:
        return f"did you mean {forms[close[0]]!r}?"
    if otherwise:
        return otherwise
    return "choose from " + ", ".join(known) if known else "there is nothing to choose from"
