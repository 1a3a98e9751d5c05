"""The methods of a model that explain its predictions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from polymodal.core.argument_types import check_arguments
from polymodal.data.table.table import Table
from polymodal.preparation.preparation import Preparation
from polymodal.recipe.recipe import Recipe

if TYPE_CHECKING:
    from polymodal.explanation.counterfactuals import Counterfactuals
    from polymodal.explanation.input_contributions import InputContributions
    from polymodal.explanation.member_terms import MemberTerms
    from polymodal.explanation.row_explanations import Explanations
    from polymodal.inference.ensemble_predictor import FittedEnsemble, PredictsSplits
    from polymodal.model.nearest_rows import NearestRows


class ExplainsPredictions(ABC):
    """Base class of `Model`: contributions of its inputs, and of the parts of an input."""

    recipe: Recipe
    preparation: Preparation
    ensemble: FittedEnsemble | None

    @property
    @abstractmethod
    def row_predictor(self) -> PredictsSplits:
        """The predictor of all members, or of the network if it is alone."""

    @abstractmethod
    def open(self, data: Any, root: Path | str | None = None, *, targets: bool = False) -> Table:
        """Open `data` as a table and check that it has the columns of the inputs (and targets)."""

    @check_arguments
    def contributions(
        self,
        data: Any,
        *,
        output: str | None = None,
        target: Any = None,
        scale: Literal["log_odds", "probability", "number"] | None = None,
        root: Path | str | None = None,
        strict: bool = False,
    ) -> InputContributions:
        """How much each input contributes to the prediction of each row: exact Shapley values over all subsets of up to
        8 inputs, sampled with standard errors beyond, with the interaction of each pair.

        output: default: the first output
        target: the class, label or column whose prediction is explained; default: the predicted class of each row
        scale: `log_odds` or `probability` of the class; default: `log_odds`, and `number` for numbers

        For other arguments and errors, see `predict`.

        Raises:
            RecipeError: there is no such output or target, or the output has no class, label or number.
        """
        from polymodal.explanation.explained_value import explained_value
        from polymodal.model.explanations import explain_inputs, removal_notes

        explained = explained_value(self.preparation.tasks, output, target, scale)
        notes = removal_notes(self.recipe, self.ensemble)
        return explain_inputs(self.row_predictor, self.open(data, root), explained, notes, strict)

    @check_arguments
    def explain(
        self,
        data: Any,
        *,
        input: str | None = None,
        method: Literal["occlusion", "shapley", "integrated_gradients", "gradient_x_input"] = "occlusion",
        output: str | None = None,
        target: Any = None,
        root: Path | str | None = None,
        strict: bool = False,
    ) -> Explanations:
        """How much each part of one input contributes to the prediction of each row: regions of an image, words of a
        text, spans of a sound, steps of a time series, or the columns of numbers, categories and dates.

        input: default: the only input
        method: `occlusion` and `shapley` explain any model; `integrated_gradients` and `gradient_x_input` explain one
            network, for images, audio, time series and numbers
        output, target: as in `contributions`

        Each explanation has its completeness gap, its deletion and insertion against random orders of the parts, and
        its cost. A method that is no better than random orders is named in `notes`. Each row costs some 100 to 1,000
        predictions, so explain the rows of interest. For other arguments and errors, see `predict`.

        Raises:
            RecipeError: the input, output or target does not exist, or the method does not fit the model or the input.
        """
        from polymodal.explanation.explained_value import explained_value
        from polymodal.model.explanations import explain_parts, explained_input

        name, explained = explained_input(self.recipe, input), explained_value(self.preparation.tasks, output, target)
        return explain_parts(self.row_predictor, self.open(data, root), name, method, explained, strict)

    @check_arguments
    def member_terms(
        self,
        data: Any,
        *,
        member: str | None = None,
        output: str | None = None,
        root: Path | str | None = None,
        strict: bool = False,
    ) -> MemberTerms:
        """The raw predictions of a linear or tree member for each row, as a sum of one exact term for each feature.

        member: its name in the leaderboard; default: the linear or tree member with the largest weight
        output: default: the first output

        For other arguments and errors, see `predict`.

        Raises:
            RecipeError: the model has no such member, or its prediction is no sum of terms.
        """
        from polymodal.explanation.explained_value import checked_output
        from polymodal.model.explanations import explain_member

        name = checked_output(self.preparation.tasks, output)
        return explain_member(self.row_predictor, self.open(data, root), name, member, strict)

    @check_arguments
    def counterfactuals(
        self, data: Any, *, output: str | None = None, root: Path | str | None = None, strict: bool = False
    ) -> Counterfactuals:
        """What the model would predict for each row without each of its inputs, and the fewest inputs whose removal
        changes the answer: among all sets of up to 6 inputs, and among single inputs and pairs of more.

        output: default: the first output

        For other arguments and errors, see `predict`.

        Raises:
            RecipeError: there is no such output, or it has no class, label or number.
        """
        from polymodal.explanation.explained_value import checked_output, explained_value
        from polymodal.model.explanations import removal_notes, row_counterfactuals

        name = checked_output(self.preparation.tasks, output)
        tasks = self.preparation.tasks
        explained_value(tasks, name, tasks[name].class_labels[0])  # raises for texts, events and embeddings
        notes = removal_notes(self.recipe, self.ensemble)
        return row_counterfactuals(self.row_predictor, self.open(data, root), name, notes, strict)

    @check_arguments
    def nearest_rows(
        self,
        data: Any,
        reference: Any,
        *,
        count: int = 3,
        root: Path | str | None = None,
        strict: bool = False,
    ) -> NearestRows:
        """The rows of `reference`, such as the training table, that are the nearest to each row in the embedding of the
        network, or in the features of the members of a model without one, with their targets.

        count: number of nearest rows

        For other arguments and errors, see `predict`.

        Raises:
            RecipeError: `reference` has fewer than `count` rows.
        """
        from polymodal.model.nearest_rows import nearest_rows

        return nearest_rows(self.row_predictor, self.open(reference, root), self.open(data, root), count, strict)
