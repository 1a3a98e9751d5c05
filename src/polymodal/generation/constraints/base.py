"""The interface of constraints on generated texts."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np


class Cursor(ABC):
    """The position of one text in a constraint.

    A cursor always knows a completion of its text, so that a constrained text never ends before it satisfies the
    constraint, however few tokens remain.
    """

    @abstractmethod
    def allowed_tokens(self, left: int) -> np.ndarray:
        """`[vocabulary]` bool: the tokens that may follow, including the end token if the text may end here.

        left: number of tokens that may still be generated, including the end token
        """

    @abstractmethod
    def advance(self, token: int, left: int) -> bool:
        """Append an allowed token other than the end token.

        Returns False, and changes nothing, if the text could then not be completed in `left` further tokens, including
        the end token.
        """

    @abstractmethod
    def next_token_to_finish(self) -> int:
        """The next token of the shortest known completion; the end token if the text is complete."""

    @abstractmethod
    def copy(self) -> Cursor:
        """An independent cursor at the same position."""


class Constraint(ABC):
    """A set of texts to which generation is limited."""

    @abstractmethod
    def start(self, max_new_tokens: int) -> Cursor:
        """A cursor before the first token.

        Raises:
            RecipeError: no text of at most `max_new_tokens` tokens, including the end token, satisfies the constraint.
        """
