"""Conformal sets, abstention and calibration rows of a model, for the rows of a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from polymodal.core.caller import warn_caller
from polymodal.core.errors import DataError, PolymodalWarning, RecipeError
from polymodal.core.formatting import count_noun, join_words
from polymodal.data.partition import Split
from polymodal.data.table.cell_errors import CellErrors, warn_cell_errors
from polymodal.data.table.table import Table
from polymodal.evaluation.targets import OutputTargets
from polymodal.inference.batching import PREDICTION_BATCH_SIZE
from polymodal.preparation.preparation import PreparedTable
from polymodal.tasks.base import Task
from polymodal.uncertainty.abstention import RiskCoverage, confidence_threshold, risk_coverage
from polymodal.uncertainty.calibration_rows import CalibrationRows, is_calibrated, known_targets, present_inputs
from polymodal.uncertainty.conformal_sets import Conformal, conformal_answers

if TYPE_CHECKING:
    from polymodal.inference.ensemble_predictor import PredictsSplits
    from polymodal.inference.predictions import Predictions

#: The answers of a block by output, and its distributions `[rows, k]`.
Block = tuple[dict[str, list[Any]], dict[str, np.ndarray]]


@dataclass(frozen=True)
class Uncertain:
    """The predictor of a model and its calibration rows by output."""

    predictor: PredictsSplits
    rows: Mapping[str, CalibrationRows]

    @property
    def tasks(self) -> dict[str, Task]:
        """The task of each output."""
        return self.predictor.preparation.tasks

    def sets(self, table: Table, cell_errors: CellErrors, wanted: Conformal) -> Iterator[Block]:
        """The sets or intervals of each block of rows. A warning at the end counts the rows whose inputs present too
        few calibration rows have.

        Raises:
            RecipeError: an output has no sets, or no or too few calibration rows.
        """
        for name, task in self.tasks.items():
            wanted.check(name, task, self._rows_of(name, "coverage"))
        pooled = np.zeros(0, dtype=bool)
        for split in self._splits(table, cell_errors):
            present, answers, distributions = present_inputs(split), {}, {}
            alone = np.zeros(len(split), dtype=bool)
            for name, one in self.predictor.predict(split).items():
                task = self.tasks[name]
                found = conformal_answers(task, one.values, present, self.rows[name], wanted)
                answers[name], distributions[name] = found.values, task.distribution(one.values)
                alone |= found.pooled
            pooled = np.concatenate([pooled, alone])
            yield answers, distributions
        if pooled.any():
            warn_caller(
                f"the inputs present in {count_noun(int(pooled.sum()), 'row')} of {len(pooled):,} are a combination "
                "that too few calibration rows have: the coverage of these rows is not known. Add such rows with "
                "Model.calibrate",
                PolymodalWarning,
            )

    def selected(self, table: Table, cell_errors: CellErrors, max_risk: float) -> Iterator[Block]:
        """The predictions of each block of rows, None where the model abstains from an output of classes.

        Raises:
            RecipeError: no output has classes, or no threshold is known to bound the risk.
        """
        classes = [name for name, task in self.tasks.items() if _has_classes(task)]
        if not classes:
            raise RecipeError("max_risk", "the model has no output of classes, and so no confidence to abstain by")
        thresholds = {name: self._threshold(name, max_risk) for name in classes}
        for split in self._splits(table, cell_errors):
            answers, distributions = {}, {}
            for name, one in self.predictor.predict(split).items():
                found = self.tasks[name].distribution(one.values)
                given = self.tasks[name].predict(found)
                if name in thresholds:
                    sure = (found.max(axis=1) >= thresholds[name]).tolist()
                    given = [answer if kept else None for answer, kept in zip(given, sure, strict=True)]
                answers[name], distributions[name] = given, found
            yield answers, distributions

    def risk_coverage(self, table: Table, output: str, strict: bool) -> RiskCoverage:
        """The curve of `Model.risk_coverage`."""
        if not _has_classes(self.tasks[output]):
            raise RecipeError("output", f"the output {output!r} has no classes, and so no confidence to abstain by")
        confidence, correct = [], []
        for split, predictions in self._labeled(table, [output], strict):
            targets, task = OutputTargets.of(split, output), self.tasks[output]
            distribution, truth, _ = targets.arrays(task, task.distribution(predictions[output].values))
            confidence.append(distribution.max(axis=1))
            correct.append(distribution.argmax(axis=1) == truth)
        return risk_coverage(output, np.concatenate(confidence), np.concatenate(correct))

    def calibration_rows(self, table: Table, strict: bool) -> dict[str, CalibrationRows]:
        """The calibration rows of all rows of a table with known targets."""
        outputs = [name for name, task in self.tasks.items() if is_calibrated(task)]
        if not outputs:
            kinds = join_words(sorted({task.options.name for task in self.tasks.values()}) or ["nothing"])
            raise RecipeError("outputs", f"the model predicts {kinds}, which has no calibration rows")
        parts: dict[str, list[tuple[np.ndarray, ...]]] = {name: [] for name in outputs}
        for split, predictions in self._labeled(table, outputs, strict):
            for name in outputs:
                targets = OutputTargets.of(split, name)
                known = known_targets(self.tasks[name], targets.value, targets.present)
                values = predictions[name].values.numpy()
                parts[name].append((values[known], targets.value[known], present_inputs(split)[known]))
        found = {}
        for name, blocks in parts.items():
            values, target, present = (np.concatenate(one) for one in zip(*blocks, strict=True))
            found[name] = CalibrationRows.of(self.tasks[name], values, target, present)
        return found

    def _rows_of(self, name: str, path: str) -> CalibrationRows:
        """The calibration rows of an output; a RecipeError with `path` if there are none."""
        task = self.tasks[name]
        if not is_calibrated(task):
            raise RecipeError(
                path, f"the output {name!r} has the task {task.options.name}, which has no calibration rows"
            )
        if name not in self.rows:
            raise RecipeError(
                path,
                f"the model has no calibration rows for the output {name!r}: it was saved by an earlier version. "
                "Give rows with targets that it was not trained on to Model.calibrate",
            )
        return self.rows[name]

    def _threshold(self, name: str, max_risk: float) -> float:
        rows = self._rows_of(name, "max_risk")
        found = confidence_threshold(rows.confidence, rows.correct, max_risk)
        if found is None:
            raise RecipeError(
                "max_risk",
                f"no confidence of the output {name!r} is known to have a risk of at most {max_risk} on "
                f"{count_noun(len(rows), 'calibration row')}; allow more, or add rows with Model.calibrate",
            )
        return found

    def _splits(self, table: Table, cell_errors: CellErrors) -> Iterator[Split[PreparedTable]]:
        preparation = self.predictor.preparation
        for block in preparation.blocks(table, cell_errors, size=PREDICTION_BATCH_SIZE):
            yield Split.all_rows(preparation.prepare_block(block))

    def _labeled(
        self, table: Table, outputs: list[str], strict: bool
    ) -> Iterator[tuple[Split[PreparedTable], dict[str, Predictions]]]:
        """Blocks of rows with targets, and their predictions.

        Raises:
            DataError: no row has a usable target of an output.
        """
        preparation, cell_errors = self.predictor.preparation, CellErrors(strict)
        known = dict.fromkeys(outputs, 0)
        for block in preparation.blocks(table, cell_errors, size=PREDICTION_BATCH_SIZE, targets=True):
            split = Split.all_rows(preparation.prepare_block(block, targets=True))
            for name in outputs:
                targets = OutputTargets.of(split, name)
                known[name] += int(known_targets(self.tasks[name], targets.value, targets.present).sum())
            yield split, self.predictor.predict(split)
        warn_cell_errors(cell_errors.errors)
        for name, count in known.items():
            if not count:
                raise DataError(f"no row has a usable target of the output {name!r}", file=table.name)


def _has_classes(task: Task) -> bool:
    return task.space == "categorical" and is_calibrated(task)
