"""Recipe section `ensemble`: how the members of a model are compared and combined."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from polymodal.core.needs import Needs
from polymodal.core.options import StrictModel

#: The effort for a model: which members are tried.
Quality = Literal["fast", "balanced", "best"]

#: The condition of options without effect on a network alone.
MEMBERS = Needs("members beside the network", lambda _, run: bool(run.recipe.members))


class EnsembleOptions(StrictModel):
    """Comparison and combination of the members of a model."""

    folds: Annotated[int | None, MEMBERS] = Field(default=None, ge=1, le=50)
    """Folds of the training and validation rows together, in which every member predicts the rows that it was not
    trained on. 1: the members are compared on the validation rows only. Default: 5 for few rows, else 1."""
    max_members: Annotated[int, MEMBERS] = Field(default=6, ge=1, le=50)
    """Largest number of members that are combined."""
    max_picks: Annotated[int, MEMBERS] = Field(default=20, ge=1, le=500)
    """Picks of the greedy selection; a member that is picked twice has twice the weight."""
    confidence: Annotated[float, MEMBERS] = Field(default=0.9, ge=0.5, lt=1)
    """The combination replaces the best single member only if it is better with this confidence, by a paired test over
    the rows."""
