"""The methods of a model that measure how sure its predictions are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from polymodal.core.argument_types import check_arguments
from polymodal.core.errors import RecipeError
from polymodal.data.table.cell_errors import CellErrors
from polymodal.data.table.table import Table
from polymodal.model.run_record import RunRecord
from polymodal.model.uncertainty import Block, Uncertain
from polymodal.preparation.preparation import Preparation
from polymodal.uncertainty.abstention import RiskCoverage, Selective
from polymodal.uncertainty.calibration_rows import CalibrationRows
from polymodal.uncertainty.conformal_sets import Conformal, Score, Within

if TYPE_CHECKING:
    from polymodal.inference.ensemble_predictor import PredictsSplits


class MeasuresUncertainty(ABC):
    """Base class of `Model`: answers with a coverage or a bounded risk, from its calibration rows."""

    preparation: Preparation
    run: RunRecord
    calibration: dict[str, CalibrationRows]

    @property
    @abstractmethod
    def row_predictor(self) -> PredictsSplits:
        """The predictor of all members, or of the network if it is alone."""

    @abstractmethod
    def open(self, data: Any, root: Path | str | None = None, *, targets: bool = False) -> Table:
        """Open `data` as a table and check that it has the columns of the inputs (and targets)."""

    @abstractmethod
    def stream(self, table: Table, cell_errors: CellErrors) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        """Row numbers and distributions `[rows, k]` by output, block by block."""

    @check_arguments
    def stream_answers(
        self, table: Table, cell_errors: CellErrors, options: Conformal | Selective | None = None
    ) -> Iterator[Block]:
        """The answers and distributions of each block of rows, by output.

        options: sets with a coverage, or a bounded risk; default: predictions

        Raises:
            RecipeError: the options do not fit the outputs, or there are too few calibration rows.
        """
        uncertain = Uncertain(self.row_predictor, self.calibration)
        if isinstance(options, Conformal):
            yield from uncertain.sets(table, cell_errors, options)
        elif isinstance(options, Selective):
            yield from uncertain.selected(table, cell_errors, options.max_risk)
        else:
            for _, block in self.stream(table, cell_errors):
                yield {name: self.preparation.tasks[name].predict(one) for name, one in block.items()}, block

    @check_arguments
    def risk_coverage(
        self, data: Any, *, output: str | None = None, root: Path | str | None = None, strict: bool = False
    ) -> RiskCoverage:
        """How often the model is wrong if it answers only the rows that it is most sure about, for rows with targets.

        output: an output of classes; default: the first output

        For other arguments and errors, see `evaluate`.

        Raises:
            RecipeError: there is no such output, or it has no classes.
        """
        from polymodal.explanation.explained_value import checked_output

        name = checked_output(self.preparation.tasks, output)
        table = self.open(data, root, targets=True)
        return Uncertain(self.row_predictor, self.calibration).risk_coverage(table, name, strict)

    @check_arguments
    def calibrate(self, data: Any, *, root: Path | str | None = None, strict: bool = False) -> Self:
        """Replace the calibration rows by these rows with targets, which training must not have used. Predictions stay
        as they are; `predict` with `coverage` or `max_risk` uses the new rows, and `save` writes them.

        Rows of a class that training did not see are left out, so the coverage and the risk hold for rows of known
        classes.

        Returns the model itself. For other arguments and errors, see `evaluate`.

        Raises:
            RecipeError: no output has classes, labels or numbers.
        """
        from polymodal.evaluation.training_rows import warn_training_rows
        from polymodal.model.scored_tables import count_training_rows  # slow to import

        table = self.open(data, root, targets=True)
        warn_training_rows(count_training_rows(self.run, self.preparation, table), len(table), table.name)
        self.calibration = Uncertain(self.row_predictor, self.calibration).calibration_rows(table, strict)
        return self


def uncertainty_options(
    coverage: float | None, score: Score | None, within: Within | None, max_risk: float | None
) -> Conformal | Selective | None:
    """The options of `Model.predict` as one object; None for plain predictions.

    Raises:
        RecipeError: two options contradict each other, or one needs another.
    """
    if coverage is not None and max_risk is not None:
        raise RecipeError("max_risk", "sets with a coverage are never left out; give coverage or max_risk")
    for name, value in (("score", score), ("within", within)):
        if value is not None and coverage is None:
            raise RecipeError(name, f"belongs to coverage; add coverage=0.9, or leave out {name}")
    if coverage is not None:
        return Conformal(coverage, score or "lac", within or "inputs")
    return None if max_risk is None else Selective(max_risk)
