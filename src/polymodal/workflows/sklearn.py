"""scikit-learn estimators for pipelines, grid searches and cross-validation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_consistent_length, check_is_fitted, validate_data

from polymodal.core.errors import RecipeError
from polymodal.core.progress import Progress
from polymodal.core.registry import find
from polymodal.data.partition import Split, make_splits
from polymodal.data.table.table import Table
from polymodal.experiments.arguments import RecipeLike, as_recipe, as_table
from polymodal.experiments.live_options import check_live_options
from polymodal.experiments.plan import make_plan
from polymodal.model.model import Model
from polymodal.recipe.data import DataOptions
from polymodal.recipe.recipe import InputSpec, OutputSpec, Recipe
from polymodal.recipe.run_context import RunContext
from polymodal.workflows.fit import run_plan
from polymodal.workflows.run_folder import RunFolder

#: With fewer rows, the training rows are also the validation rows.
MIN_SPLIT_ROWS = 10

_FRAMES = ("pandas", "polars", "pyarrow")


class _Estimator(BaseEstimator):  # type: ignore[misc]
    """Base class of the classifier and the regressor."""

    _task: ClassVar[str]

    def __init__(
        self,
        recipe: RecipeLike = None,
        settings: list[str] | Mapping[str, Any] | None = None,
        root: Path | str | None = None,
        random_state: Any = None,
    ) -> None:
        self.recipe = recipe
        self.settings = settings
        self.root = root
        self.random_state = random_state

    def _fit(self, columns: dict[str, Any], y: np.ndarray, weights: np.ndarray | None) -> Self:
        """Train on `columns` with targets `y [rows]`. Rows with weight 0 are already removed."""
        recipe = as_recipe(self.recipe, self.settings)
        target = _target_column(recipe, self._task, columns)
        source: dict[str, Any] = {**columns, target: y.tolist()}
        data = recipe.data
        if data.split.column is not None:
            raise RecipeError("data.split.column", "an estimator trains on all given rows: remove it")
        if weights is not None:
            if data.weight_column is not None:
                raise RecipeError(
                    "data.weight_column", "weights are also given as sample_weight: remove one of the two"
                )
            name = _free_name("sample_weight", source)
            source[name] = weights.tolist()
            data = data.model_copy(update={"weight_column": name})
        table = as_table(source, self.root)
        assert table is not None
        plan = make_plan(table, self._complete_recipe(recipe, data, target, columns), [target], estimators=True)
        check_live_options(RunContext(plan.recipe, recipe, "estimator", writes_files=False))
        splits = _splits(plan.recipe, table, len(np.unique(y)) if self._task == "classification" else 1)
        plan = plan.with_schedule(len(splits["train"]))
        self.model_: Model = run_plan(plan, splits, RunFolder(None), Progress(False))
        return self

    def _complete_recipe(self, recipe: Recipe, data: DataOptions, target: str, columns: dict[str, Any]) -> Recipe:
        """The recipe with the settings for scikit-learn; see `PolymodalClassifier`."""
        name, spec = next(iter(recipe.outputs.items()), (target, OutputSpec(columns=[target])))
        task = spec.task or find("task", self._task).Options()
        training = recipe.training
        compute: dict[str, Any] = {"precision": "fp32"} if training.precision == "auto" else {}
        compute |= {"num_threads": 1} if training.num_threads == "auto" else {}
        completed: dict[str, Any] = {
            "outputs": {name: spec.model_copy(update={"task": task})},
            "data": data.model_copy(update={"split": data.split.model_copy(update={"test_size": 0.0})}),
            "evaluation": recipe.evaluation.model_copy(update={"unimodal_scores": "none", "bootstrap_samples": 0}),
            "training": training.model_copy(update=compute),
        }
        if self.random_state is not None:
            completed["seed"] = int(check_random_state(self.random_state).randint(2**31 - 1))
        if not recipe.inputs and all(_is_number_array(cells) for cells in columns.values()):
            numbers = InputSpec(columns=list(columns), modality=find("modality", "number").Options())
            completed["inputs"] = {_free_name("numbers", [name]): numbers}
        return recipe.model_copy(update=completed)

    def _training_data(
        self, X: Any, y: Any, sample_weight: Any
    ) -> tuple[dict[str, Any], np.ndarray, np.ndarray | None]:
        """Validated columns, targets `[rows]` and weights `[rows]` of rows with a positive weight."""
        numeric = self._task == "regression"
        if _is_frame(X):
            y = validate_data(self, y=y, y_numeric=numeric)  # resets the feature names, so it must come first
            validate_data(self, X, skip_check_array=True)
            check_consistent_length(X, y)
        else:
            X, y = validate_data(self, X, y, dtype=None, ensure_all_finite="allow-nan", y_numeric=numeric)
        if not numeric:
            check_classification_targets(y)
        columns = self._columns(X)
        if sample_weight is None:
            return columns, y, None
        try:
            weights: np.ndarray = _check_sample_weight(sample_weight, X, ensure_non_negative=True)
        except ArithmeticError as error:  # numpy compares decimals that are no numbers
            raise ValueError(f"sample_weight must be numbers: {error}") from None
        kept = np.flatnonzero(weights)
        if len(kept) == 0:
            raise ValueError("sample_weight is 0 in every row: there are no training rows")
        if len(kept) < len(y):
            columns = {name: _take(cells, kept) for name, cells in columns.items()}
        return columns, y[kept], weights[kept]

    def _distribution(self, X: Any) -> np.ndarray:
        """The distribution of the model for the rows of `X`, `[rows, k]` in the class order of the model."""
        check_is_fitted(self)
        if _is_frame(X):
            validate_data(self, X, skip_check_array=True, reset=False)
        else:
            X = validate_data(self, X, dtype=None, ensure_all_finite="allow-nan", reset=False)
        found: np.ndarray = self.model_.predict_proba(as_table(self._columns(X), self.root))
        return found

    def _columns(self, X: Any) -> dict[str, Any]:
        """The columns of `X` by name; unnamed columns are x0, x1, ..."""
        names = getattr(self, "feature_names_in_", None)
        names = [f"x{index}" for index in range(self.n_features_in_)] if names is None else list(names)
        if not _is_frame(X):
            return {name: np.ascontiguousarray(X[:, index]) for index, name in enumerate(names)}
        table = as_table(X, None)
        assert table is not None
        rows = np.arange(len(table))
        return {name: table.values(own, rows) for name, own in zip(names, table.columns, strict=True)}

    def __getstate__(self) -> dict[str, Any]:
        """The state for pickling and copying. The model is stored as the files of its directory."""
        state = dict(super().__getstate__())
        if "model_" in state:
            state["model_"] = _to_files(state["model_"])
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        if "model_" in state:
            state["model_"] = _from_files(state["model_"])
        super().__setstate__(state)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        return tags


class PolymodalClassifier(ClassifierMixin, _Estimator):  # type: ignore[misc]
    """A classifier for tables of mixed media.

    recipe, settings, root: as in `polymodal.fit`; unset options are inferred from the columns. An array of numbers
        becomes one input with all its columns.
    random_state: None for the `seed` of the recipe; else an int or `numpy.random.RandomState` from which the seed is
        drawn

    `X` is a data frame (pandas, polars, pyarrow) or an array `[rows, columns]` with columns named x0, x1, ... Missing
    cells may be None or NaN. There is no test split and no scoring, because scikit-learn holds out rows itself. A
    fraction `data.split.validation_size` of the rows selects the best epoch; with fewer than `MIN_SPLIT_ROWS` rows, or
    with as many classes as rows, the training rows are used instead. `training.precision` and `training.num_threads`
    default to fp32 and 1, so that the same `random_state` always gives the same model.

    Fitted attributes: `model_` (the `Model`, which can be saved), `classes_`, `n_features_in_`, `feature_names_in_`
    (data frames).

    Example:
        >>> import numpy as np
        >>> from polymodal import PolymodalClassifier
        >>> X, y = np.array([[1.0], [1.2], [5.0], [5.1]] * 5), np.array(["short", "short", "long", "long"] * 5)
        >>> classifier = PolymodalClassifier(settings=["training.epochs=1"], random_state=0).fit(X, y)
        >>> classifier.predict_proba(X).shape
        (20, 2)
    """

    _task = "classification"

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train on the rows of `X` with classes `y [rows]`. Rows with `sample_weight` 0 are ignored.

        Raises:
            ValueError: `X` or `y` is invalid, or there is only one class.
            RecipeError, DataError, TrainingError: as `polymodal.fit`.
        """
        columns, y, weights = self._training_data(X, y, sample_weight)
        self.classes_ = np.unique(y)
        if len(self.classes_) < 2:
            raise ValueError(f"PolymodalClassifier needs two classes, y has 1 class: {self.classes_[0]!r}")
        return self._fit(columns, y, weights)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities `[rows, classes]` in the order of `classes_`."""
        predicted = self._distribution(X)
        task = next(iter(self.model_.tasks.values()))
        labels = np.asarray(task.labels.values, dtype=self.classes_.dtype)  # type: ignore[attr-defined]
        probabilities = np.zeros((len(predicted), len(self.classes_)))  # a class may have no training row
        probabilities[:, np.searchsorted(self.classes_, labels)] = predicted
        return probabilities

    def predict(self, X: Any) -> np.ndarray:
        """The class of each row, `[rows]`."""
        predicted = self.predict_proba(X).argmax(1)
        answers: np.ndarray = self.classes_[predicted]
        return answers


class PolymodalRegressor(RegressorMixin, _Estimator):  # type: ignore[misc]
    """A regressor for tables of mixed media. For parameters, `X` and splits, see `PolymodalClassifier`.

    Fitted attributes: `model_`, `n_features_in_`, `feature_names_in_` (data frames).

    Example:
        >>> import numpy as np
        >>> from polymodal import PolymodalRegressor
        >>> X = np.linspace(0, 1, 20)[:, None]
        >>> PolymodalRegressor(settings=["training.epochs=1"], random_state=0).fit(X, 2 * X[:, 0]).predict(X).shape
        (20,)
    """

    _task = "regression"

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train on the rows of `X` with numbers `y [rows]`. Rows with `sample_weight` 0 are ignored.

        Raises:
            ValueError: `X` or `y` is invalid, or there is only one row.
            RecipeError, DataError, TrainingError: as `polymodal.fit`.
        """
        columns, y, weights = self._training_data(X, y, sample_weight)
        if len(y) < 2:
            raise ValueError("PolymodalRegressor needs two rows or more, given n_samples = 1")
        return self._fit(columns, y, weights)

    def predict(self, X: Any) -> np.ndarray:
        """The number of each row, `[rows]`."""
        return self._distribution(X)[:, 0]


def _splits(recipe: Recipe, table: Table, classes: int) -> dict[str, Split[Table]]:
    rows = len(table)
    if rows < MIN_SPLIT_ROWS or rows <= classes:
        everything = Split.all_rows(table)
        return {"train": everything, "validation": everything}
    return make_splits(recipe, table, None, None)


def _target_column(recipe: Recipe, task: str, columns: dict[str, Any]) -> str:
    """The column name of `y`: the target column of the recipe, or else an unused name.

    Raises:
        RecipeError: the recipe does not have exactly one output of this task, or its column is also in `X`.
    """
    if not recipe.outputs:
        return _free_name("target", columns)
    if len(recipe.outputs) > 1:
        raise RecipeError("outputs", f"an estimator supports one output, not {len(recipe.outputs)}")
    name, spec = next(iter(recipe.outputs.items()))
    if len(spec.columns) != 1:
        raise RecipeError(
            f"outputs.{name}.columns", f"an estimator supports one target column, not {len(spec.columns)}"
        )
    if spec.task is not None and spec.task.name != task:
        raise RecipeError(f"outputs.{name}.task", f"{spec.task.name!r} is not the task of this estimator, {task!r}")
    if spec.columns[0] in columns:
        raise RecipeError(f"outputs.{name}.columns", f"{spec.columns[0]!r} is also a column of X: remove it from X")
    return spec.columns[0]


def _is_frame(X: Any) -> bool:
    return type(X).__module__.partition(".")[0] in _FRAMES and hasattr(X, "columns")


def _is_number_array(cells: Any) -> bool:
    return isinstance(cells, np.ndarray) and cells.dtype.kind in "iuf"


def _take(cells: Any, rows: np.ndarray) -> Any:
    """Some cells of a column: of an array, an Arrow column, or a list of objects."""
    return [cells[row] for row in rows] if isinstance(cells, list) else cells.take(rows)


def _free_name(wanted: str, taken: Any) -> str:
    while wanted in taken:
        wanted += "_"
    return wanted


def _to_files(model: Model) -> dict[str, bytes]:
    """The files of a model's directory, by their path in it."""
    with TemporaryDirectory() as temporary:
        folder = model.save(temporary)
        files = [path for path in folder.rglob("*") if path.is_file()]
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def _from_files(files: dict[str, bytes]) -> Model:
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return Model.load(folder)
