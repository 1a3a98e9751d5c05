"""What a text is held to while it is written."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from weakref import WeakKeyDictionary

import numpy as np

from polymodal.generation.config import Writing
from polymodal.generation.tokenizer import Codec


class Cursor(ABC):
    """Where one text stands in a constraint. It knows at any time how the text can be finished, so that a text that is
    held to a constraint never ends before it meets it, however few tokens are left."""

    @abstractmethod
    def allowed(self, left: int) -> np.ndarray:
        """`[vocabulary]` bool: the tokens that may follow, the end among them where the text may end here.

        left: tokens that may still be written, the end included
        """

    @abstractmethod
    def advance(self, token: int, left: int) -> bool:
        """Append an allowed token other than the end. False, and nothing is changed, if the text could then not be
        finished in `left` further tokens, the end included."""

    @abstractmethod
    def closing(self) -> int:
        """The next token of the shortest way to finish that is known; the end, if nothing is missing."""

    @abstractmethod
    def copy(self) -> Cursor:
        """A cursor of its own at the same place."""


class Constraint(ABC):
    """The texts that may be written."""

    @abstractmethod
    def start(self, steps: int) -> Cursor:
        """A cursor before the first token.

        Raises:
            RecipeError: no text of at most `steps` tokens, the end included, meets the constraint.
        """


_last: WeakKeyDictionary[Codec, tuple[str, Constraint]] = WeakKeyDictionary()


def constraint_of(writing: Writing, codec: Codec) -> Constraint | None:
    """The constraint that `writing` asks for; the last one of each codec is kept.

    Raises:
        RecipeError: the regular expression or the schema is not valid, or a choice cannot be written.
        MissingExtraError: llguidance is not installed.
    """
    given = {name: getattr(writing, name) for name in ("choices", "regex", "json_schema")}
    if all(one is None for one in given.values()):
        return None
    key = json.dumps(given, ensure_ascii=False)
    if codec not in _last or _last[codec][0] != key:
        _last[codec] = key, _made(writing, codec)
    return _last[codec][1]


def _made(writing: Writing, codec: Codec) -> Constraint:
    from polymodal.generation.constraints.choices import Choices
    from polymodal.generation.constraints.grammar import Grammar

    if writing.choices is not None:
        return Choices(writing.choices, codec)
    if writing.regex is not None:
        return Grammar.of_regex(writing.regex, codec)
    return Grammar.of_schema(writing.json_schema or {}, codec)
