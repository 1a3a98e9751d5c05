"""The methods of a model that tell what it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from polymodal.core.argument_types import check_arguments
from polymodal.core.errors import RecipeError, did_you_mean
from polymodal.model.leaderboard import Leaderboard, leaderboard
from polymodal.model.run_record import RunRecord
from polymodal.model.summary import ModelSummary, summarize
from polymodal.recipe.recipe import Recipe


class DescribesItself(ABC):
    """Base class of `Model`: its short forms, its summary and its members."""

    recipe: Recipe
    run: RunRecord
    metrics: dict[str, Any]

    @property
    @abstractmethod
    def has_network(self) -> bool:
        """Whether the model has a network."""

    def __repr__(self) -> str:
        return f"<polymodal.Model of {', '.join(self.recipe.inputs)} -> {', '.join(self.recipe.outputs)}>"

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()

    def summary(self) -> ModelSummary:
        """What the model reads and predicts, how it was trained, and its scores: lines for `print`, and a table in a
        notebook."""
        return summarize(self.recipe, self.run, self.metrics, has_network=self.has_network)

    @check_arguments
    def leaderboard(self, output: str | None = None) -> Leaderboard:
        """The members that were compared for an output (default: the first), the best first: a list, and a table in a
        notebook; empty for one network.

        Raises:
            RecipeError: there is no such output.
        """
        if output is not None and output not in self.recipe.outputs:
            raise RecipeError("output", f"there is no output {output!r}; {did_you_mean(output, self.recipe.outputs)}")
        return leaderboard(self.run, output or next(iter(self.recipe.outputs), ""))
