"""The methods of a model that find where it is weak, and rows that differ from those it knows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polymodal.core.argument_types import check_arguments
from polymodal.data.table.table import Table
from polymodal.preparation.preparation import Preparation

if TYPE_CHECKING:
    from polymodal.diagnosis.drift import Drift
    from polymodal.diagnosis.slices import Slices
    from polymodal.inference.ensemble_predictor import PredictsSplits


class FindsWeaknesses(ABC):
    """Base class of `Model`: slices with a larger loss, and drift between tables."""

    preparation: Preparation

    @property
    @abstractmethod
    def row_predictor(self) -> PredictsSplits:
        """The predictor of all members, or of the network if it is alone."""

    @abstractmethod
    def open(self, data: Any, root: Path | str | None = None, *, targets: bool = False) -> Table:
        """Open `data` as a table and check that it has the columns of the inputs (and targets)."""

    @check_arguments
    def slices(
        self,
        data: Any,
        *,
        output: str | None = None,
        columns: list[str] | None = None,
        root: Path | str | None = None,
        strict: bool = False,
    ) -> Slices:
        """The slices of rows with targets in which the model is worse than elsewhere: values and ranges of columns,
        missing cells, and clusters of the embedding of a network. They are found in one half of the rows and confirmed
        in the other, so that a slice that is not worse is reported in at most 5 % of the tables.

        output: default: the first output
        columns: look at these columns only, also such as are no inputs; default: all columns but the targets, and the
            clusters

        For other arguments and errors, see `evaluate`. Use rows that the model was not trained on.

        Raises:
            RecipeError: there is no such output or column, or the output has no classes, labels or numbers.
        """
        from polymodal.explanation.explained_value import checked_output
        from polymodal.model.diagnosis import table_slices

        name = checked_output(self.preparation.tasks, output)
        return table_slices(self.row_predictor, self.open(data, root, targets=True), name, columns, strict)

    @check_arguments
    def drift(self, reference: Any, data: Any, *, root: Path | str | None = None, strict: bool = False) -> Drift:
        """Whether the inputs of `data` have the distribution of those of `reference`, such as the training table: tests
        of each column of numbers and categories, of missing cells, of each other input by a classifier, and of all
        inputs together. The p-values are corrected for the number of tests.

        For other arguments and errors, see `predict`.
        """
        from polymodal.model.diagnosis import table_drift

        return table_drift(self.row_predictor, self.open(reference, root), self.open(data, root), strict)
