"""What a text is held to while it is written."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np


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
