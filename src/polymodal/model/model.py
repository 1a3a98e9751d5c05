"""A trained model: prediction, evaluation, embedding, generation, saving and loading."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from polymodal.checkpoint.directory_kinds import MODEL
from polymodal.checkpoint.model_directory import (
    write_json,
    write_model_files,
)
from polymodal.checkpoint.weight_format import WeightFormat
from polymodal.core.argument_types import check_arguments
from polymodal.core.caller import warn_caller
from polymodal.core.errors import PolymodalError, PolymodalWarning, RecipeError
from polymodal.data.partition import Split
from polymodal.data.table.cell_errors import CellErrors, warn_cell_errors
from polymodal.data.table.table import Table
from polymodal.inference.batching import PREDICTION_BATCH_SIZE
from polymodal.inference.predictor import Predictor
from polymodal.model.answer_forms import shaped_probabilities, shaped_values
from polymodal.model.describes_itself import DescribesItself
from polymodal.model.distributions import unwrap_single_output
from polymodal.model.explains_predictions import ExplainsPredictions
from polymodal.model.finds_weaknesses import FindsWeaknesses
from polymodal.model.generates_texts import GeneratesTexts
from polymodal.model.make_network import compute_config
from polymodal.model.measures_uncertainty import MeasuresUncertainty, uncertainty_options
from polymodal.model.model_files import read_model, state_dict_of
from polymodal.model.rows import open_rows
from polymodal.model.run_record import RunRecord
from polymodal.nn.network import Network
from polymodal.preparation.preparation import Preparation
from polymodal.recipe.recipe import Recipe
from polymodal.runtime.compute import CPU, ComputeConfig, network_device, resolve_device
from polymodal.tasks.base import Task
from polymodal.uncertainty.calibration_file import write_calibration
from polymodal.uncertainty.calibration_rows import CalibrationRows
from polymodal.uncertainty.conformal_sets import Score, Within

if TYPE_CHECKING:
    from polymodal.evaluation.feature_importance import FeatureImportance
    from polymodal.evaluation.robustness import Robustness
    from polymodal.inference.ensemble_predictor import FittedEnsemble, PredictsSplits
    from polymodal.nn.objectives.alignment import Alignment


class Model(DescribesItself, GeneratesTexts, ExplainsPredictions, MeasuresUncertainty, FindsWeaknesses):
    """A trained model: a complete recipe, the fitted preparation, and a network, estimators, or both. `fit` and `load`
    return it.

    metrics: scores by split, output and metric, as in `metrics.json`
    run: the record of the training run: versions, column roles, history, unusable cells, as in `run.json`
    weight_format: storage and compute format of the weights
    ensemble: the members and their combination; None for a single network
    calibration: by output, how wrong the predictions of rows were that training did not use

    Example:
        >>> import polymodal
        >>> data = {"length": [1.0, 1.2, 5.0, 5.1] * 5, "kind": ["short", "short", "long", "long"] * 5}
        >>> settings = ["training.epochs=1", "evaluation.bootstrap_samples=0"]
        >>> model = polymodal.fit(data, "kind", settings=settings)
        >>> model.classes
        ['long', 'short']
        >>> model.predict_proba({"length": [1.1, 5.2]}).shape
        (2, 2)
        >>> model.embed({"length": [1.1, 5.2]}).ndim
        2
    """

    def __init__(
        self,
        recipe: Recipe,
        preparation: Preparation,
        network: Network | None,
        metrics: dict[str, Any] | None = None,
        run: RunRecord | None = None,
        weight_format: WeightFormat | None = None,
        ensemble: FittedEnsemble | None = None,
        calibration: dict[str, CalibrationRows] | None = None,
    ) -> None:
        self.recipe, self.preparation, self._network, self.ensemble = recipe, preparation, network, ensemble
        self.metrics = {} if metrics is None else metrics
        self.run = RunRecord() if run is None else run
        self.weight_format = WeightFormat() if weight_format is None else weight_format
        self.calibration = {} if calibration is None else calibration

    @property
    def network(self) -> Network:
        """The network; the first one if there are several, trained on different folds.

        Raises:
            RecipeError: the model has no network.
        """
        if self._network is None:
            raise RecipeError(
                "network",
                "the model has no network, only estimators, which have no embeddings; fit a network alone with "
                "`members: []` (--set members=[])",
            )
        return self._network

    @property
    def has_network(self) -> bool:
        """Whether the model has a network, which can embed rows and continue to learn."""
        return self._network is not None

    @check_arguments
    def predict(
        self,
        data: Any,
        *,
        coverage: float | None = None,
        score: Score | None = None,
        within: Within | None = None,
        max_risk: float | None = None,
        root: Path | str | None = None,
        strict: bool = False,
    ) -> Any:
        """Predict each row of `data`, in the order of the rows.

        data: any source of `open_table`, or one row as a dict of cells. Rows given as dicts may leave out inputs,
            which count as missing, with a `MissingColumnWarning`; a table has the columns of all inputs
        coverage: return conformal sets that hold the truth in at least this fraction of the rows, such as 0.9: a list
            of classes, the most probable first; the interval `(low, high)` of a number; a list of labels, which holds
            all labels of the row
        score: of sets of classes: `lac`, the smallest sets (the default); `aps`, larger sets for harder rows
        within: where the coverage holds: `inputs`, among the rows with the same inputs present, as far as calibration
            rows have them (the default); `classes`, among the rows of each class; `all`, among all rows
        max_risk: return None in place of a class where the model is not sure enough, so that at most this fraction of
            the other answers is wrong, with a confidence of 95 %
        root: base folder of media paths in cells; default: the folder of the table file
        strict: raise an error at the first unusable cell; default: treat unusable cells as missing, and list them in a
            `BadCellsWarning`

        Returns one value per row, in the format of the training table: a Series with the index of a pandas frame, a
        Series for a polars frame, an array for an Arrow table, and a list for all other rows. With several outputs, a
        frame or table with a column for each, or a dict of lists.

        Raises:
            DataError: an input column is missing, or (strict) a cell is unusable.
            RecipeError: `coverage` or `max_risk` do not fit the outputs, or there are too few calibration rows.
        """
        options = uncertainty_options(coverage, score, within, max_risk)
        cell_errors, table = CellErrors(strict), self.open(data, root)
        answers: dict[str, list[Any]] = {name: [] for name in self.recipe.outputs}
        for block, _ in self.stream_answers(table, cell_errors, options):
            for name, values in block.items():
                answers[name] += values
        warn_cell_errors(cell_errors.errors)
        return shaped_values(data, answers)

    @check_arguments
    def predict_proba(self, data: Any, *, root: Path | str | None = None, strict: bool = False) -> Any:
        """Predict probabilities `[rows, k]` in the order of `classes`, or numbers in the units of the table for
        regression: an array, or for a pandas or polars frame or an Arrow table a frame of its kind with the columns
        `classes`.

        With several outputs, a dict of them. For arguments and errors, see `predict`.
        """
        parts: dict[str, list[np.ndarray]] = {name: [] for name in self.recipe.outputs}
        for block in self._stream_with_warnings(data, root, strict):
            for name, distribution in block.items():
                parts[name].append(distribution)
        labels = {name: task.class_labels for name, task in self.preparation.tasks.items()}
        return shaped_probabilities(data, {name: np.concatenate(arrays) for name, arrays in parts.items()}, labels)

    @property
    def classes(self) -> Any:
        """The columns of `predict_proba`: class labels in the type of the training table, or names; with several
        outputs, a dict of lists."""
        return unwrap_single_output({name: task.class_labels for name, task in self.preparation.tasks.items()})

    @property
    def classes_(self) -> Any:
        """`classes`, under the name that scikit-learn uses."""
        return self.classes

    @check_arguments
    def evaluate(self, data: Any, *, root: Path | str | None = None, strict: bool = False) -> dict[str, Any]:
        """Scores on rows with targets, by output and metric.

        Each score has a `value` with the interval `low` to `high`, the `baseline` (the score of the best constant
        prediction), and the scores with only one input (`unimodal`). `rows` is the number of scored rows, `left_out`
        the number of other rows by reason, and `unknown_class_rows` the number of scored rows whose class training did
        not see; they count as wrong. `training_rows` is the number of rows on which the model was trained; if there are
        any, a `TrainingRowsWarning` says so. Objectives are scored by their loss, and aligned inputs by cross-modal
        retrieval.

        Raises:
            DataError: an input, target, weight or group column is missing, no row has a usable target, or (strict) a
                cell is unusable.
        """
        from polymodal.model.scored_tables import evaluate_table

        table = self.open(data, root, targets=True)
        return evaluate_table(self.row_predictor, self.recipe, self.run, table, strict)

    @check_arguments
    def robustness(
        self, data: Any, *, root: Path | str | None = None, strict: bool = False, progress: bool = False
    ) -> dict[str, Robustness]:
        """The score of each output with each input removed, and with each input corrupted at increasing strength.

        progress: show a progress bar on standard error

        For other arguments and errors, see `evaluate`.
        """
        from polymodal.model.scored_tables import measure_table_robustness

        table = self.open(data, root, targets=True)
        return measure_table_robustness(self.row_predictor, self.recipe, table, strict, progress)

    @check_arguments
    def feature_importance(
        self,
        data: Any,
        *,
        output: str | None = None,
        num_repeats: int = 5,
        root: Path | str | None = None,
        strict: bool = False,
    ) -> FeatureImportance:
        """How much worse the score of labeled rows is if the cells of a column are exchanged between the rows
        (permutation importance), for every column, the most important first. `contributions` explains single
        predictions, and needs no labels.

        output: default: the first output
        num_repeats: permutations of each column, at least 2

        For other arguments and errors, see `evaluate`.

        Raises:
            RecipeError: there is no such output, or too few repeats.
        """
        from polymodal.explanation.explained_value import checked_output
        from polymodal.model.scored_tables import measure_feature_importance

        name = checked_output(self.tasks, output)
        if num_repeats < 2:
            raise RecipeError("num_repeats", f"{num_repeats} is too few for a standard deviation; give 2 or more")
        table = self.open(data, root, targets=True)
        return measure_feature_importance(self.row_predictor, self.recipe, table, name, num_repeats, strict)

    @check_arguments
    def stream(self, table: Table, cell_errors: CellErrors) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        """Predict block by block, with memory independent of the table size.

        Yields row numbers and distributions `[rows, k]` by output. Unusable cells are added to `cell_errors`.

        Raises:
            PolymodalError: the model has no output.
        """
        if not self.recipe.outputs:
            raise PolymodalError(
                "the model has no output: use `embed`, or fit a model with init_from set to this model"
            )
        predictor, tasks = self.row_predictor, self.preparation.tasks
        for block in self.preparation.blocks(table, cell_errors, size=PREDICTION_BATCH_SIZE):
            predicted = predictor.predict(Split.all_rows(self.preparation.prepare_block(block)), row_numbers=block.rows)
            yield block.rows, {name: tasks[name].distribution(one.values) for name, one in predicted.items()}

    @check_arguments
    def embed(
        self,
        data: Any,
        *,
        input: str | None = None,
        dim: int | None = None,
        root: Path | str | None = None,
        strict: bool = False,
    ) -> np.ndarray:
        """The embedding of each row of `data`: float32 `[rows, dim]` of unit length, NaN in rows without the input.

        input: embed only this input, reading only its columns; default: embed the whole row. Aligned inputs
            (`alignment`) share one space, so text embeddings can be compared with image embeddings.
        dim: truncate embeddings to the first `dim` numbers and normalize again; useful for models trained with
            `matryoshka_dims`; default: all numbers

        For other arguments and errors, see `predict`.

        Raises:
            RecipeError: the input does not exist, or the embedding has fewer than `dim` numbers.
        """
        from polymodal.model.embedding import embed_rows

        return embed_rows(self.predictor, data, input, dim, root, strict=strict)

    @property
    def alignment(self) -> Alignment | None:
        """The objective that aligns inputs in one embedding space; None if there is none."""
        from polymodal.inference.embedding import alignment_of

        return alignment_of(self.network) if self.has_network else None

    @property
    def tasks(self) -> dict[str, Task]:
        """The task of each output."""
        return self.preparation.tasks

    @property
    def predictor(self) -> Predictor:
        """The predictor of the network, which also embeds rows and generates texts."""
        return Predictor(self.network, self.preparation, self.compute)

    @property
    def row_predictor(self) -> PredictsSplits:
        """The predictor of all members, or of the network if it is alone."""
        if self.ensemble is None:
            return self.predictor
        from polymodal.inference.ensemble_predictor import (
            EnsemblePredictor,  # its libraries are needed for members only
        )

        return EnsemblePredictor(self.ensemble, self.preparation, self.compute)

    @property
    def compute(self) -> ComputeConfig:
        """The compute configuration: precision and threads of the completed recipe, and the device of the network.

        fp32 if the device has no bf16 instructions.
        """
        return compute_config(self.recipe.training, network_device(self.network) if self.has_network else CPU)

    @check_arguments
    def open(self, data: Any, root: Path | str | None = None, *, targets: bool = False) -> Table:
        """Open `data` as a table and check that it has the columns of the inputs (and targets).

        Raises:
            DataError: a column is missing; the message suggests the closest name.
        """
        wanted = self.preparation.input_columns + (self.preparation.target_columns if targets else [])
        return self.open_columns(data, root, wanted)

    @check_arguments
    def open_columns(self, data: Any, root: Path | str | None, columns: list[str]) -> Table:
        """Open `data` as a table and check that it has the columns `columns`; rows may leave out inputs."""
        return open_rows(data, root, columns, self.preparation.modality_of_column)

    @check_arguments
    def save(self, folder: Path | str, *, overwrite: bool = False) -> Path:
        """Write the model directory (`checkpoint.model_directory`).

        overwrite: replace an existing model; it is unchanged until the new one is complete

        Raises:
            OutputError: the folder may not be replaced, another process writes it, or the disk is full.
        """
        from polymodal.checkpoint.output_directory import OutputDirectory

        with OutputDirectory(Path(folder), MODEL, overwrite).writing() as work:
            self.write_files(work)
        return Path(folder)

    def write_files(self, folder: Path) -> None:
        """Write the files of the model into a folder that is being written."""
        state = self.preparation.save(folder / "preparation")
        weights = self.weight_format.to_file(state_dict_of(self._network, self.ensemble))
        write_json(folder / "metrics.json", self.metrics)
        self.run.write(folder)
        write_calibration(folder, self.tasks, self.calibration)
        if self.ensemble is not None:
            from polymodal.model.ensemble_files import write_ensemble

            write_ensemble(folder, self.ensemble)
        write_model_files(folder, weights, self.recipe.to_yaml(), state, self.weight_format)

    @classmethod
    @check_arguments
    def load(cls, folder: Path | str, *, device: str = "auto") -> Model:
        """Read a model directory. No other files and no internet access are needed.

        device: device for prediction: `cpu`, `cuda` (or `cuda:1`, ...), `mps`; `auto` uses an accelerator if available

        Raises:
            ArtifactError: a file is missing, altered, unlisted or malformed, or the format is not supported.
            RecipeError: the device is not available.
        """
        model = cls(**vars(read_model(Path(folder), resolve_device(device, "device"))))
        if model.compute.precision != model.recipe.training.precision == "bf16":
            warn_caller(
                "the model was trained in bf16, and this processor has no bf16 instructions: predictions are computed "
                "in fp32 and differ by the rounding of bf16",
                PolymodalWarning,
            )
        return model

    def _stream_with_warnings(
        self, data: Any, root: Path | str | None, strict: bool
    ) -> Iterator[dict[str, np.ndarray]]:
        cell_errors = CellErrors(strict)
        for _, block in self.stream(self.open(data, root), cell_errors):
            yield block
        warn_cell_errors(cell_errors.errors)
