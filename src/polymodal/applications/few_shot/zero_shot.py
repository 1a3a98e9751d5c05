"""Zero-shot classification: classes are given by texts in the same embedding space as the input."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax

from polymodal.applications.few_shot.classifier_task import EmbeddingClassifierTask, read_target, score_classification
from polymodal.core.argument_types import check_arguments
from polymodal.core.errors import DataError, PolymodalError, RecipeError, did_you_mean
from polymodal.data.table.cell_errors import CellErrors, warn_cell_errors
from polymodal.data.table.table import Table
from polymodal.metrics.retrieval import normalize_rows
from polymodal.model.answer_forms import shaped_probabilities, shaped_values
from polymodal.model.model import Model
from polymodal.nn.objectives.alignment import Alignment
from polymodal.tasks.base import Task

Classes = Sequence[str] | Mapping[str, str | Sequence[str]]


class ZeroShot:
    """A classifier without labeled rows, on a model that has aligned texts with another input.

    The prompts of a class are its name, or its descriptions, in every template. The class embedding is the normalized
    mean of the unit vectors of its prompts, and the probabilities of a row are (Radford et al., "Learning Transferable
    Visual Models From Natural Language Supervision", 2021, section 3.1)

        w_c = unit(mean_j text(c, j)) ;  p_c = softmax_c(s  x . w_c),    s = 1 / temperature of the alignment

    model: a model, or the directory of one
    classes: class names, or a mapping from names to one or several descriptions
    input: the input to classify; default: the only input that is aligned with texts
    text: the aligned text input; default: the only one
    templates: prompts with a placeholder `{}` for the name or description; default: `{}`
    target: the column of the true class, which `evaluate` reads; also the name of the output

    Raises:
        RecipeError: there are fewer than two classes, or a class twice; a template has no `{}`; there is no such input.
        PolymodalError: the model has not aligned texts with the input.
    """

    @check_arguments
    def __init__(
        self,
        model: Model | Path | str,
        classes: Classes,
        *,
        input: str | None = None,
        text: str | None = None,
        templates: Sequence[str] | None = None,
        target: str = "class",
    ) -> None:
        self.model = Model.load(model) if isinstance(model, Path | str) else model
        self.input, self.text = aligned_inputs(self.model, input, text)
        texts = class_prompts(classes, templates)
        self.task = EmbeddingClassifierTask.from_labels(target, list(texts))
        self.logit_scale = float(require_alignment(self.model).logit_scale.detach())
        self.class_embeddings = self._embed_classes([texts[name] for name in self.classes])

    @property
    def classes(self) -> list[str]:
        """The classes in the order of the columns of `predict_proba` (alphabetical)."""
        return self.task.classes

    @property
    def tasks(self) -> dict[str, Task]:
        """The single output, as in `Model.tasks`."""
        return {self.task.columns[0]: self.task}

    def _embed_classes(self, texts: list[list[str]]) -> np.ndarray:
        """One unit vector per class, `[k, dim]` float64."""
        column = self.model.recipe.inputs[self.text].columns[0]
        prompts = [text for own in texts for text in own]
        result = self.model.embed({column: prompts}, input=self.text, strict=True).astype(np.float64)
        if np.isnan(result).any():
            text = prompts[int(np.isnan(result).any(1).argmax())]
            raise RecipeError("classes", f"the model cannot encode the text {text!r}")
        boundaries = np.cumsum([len(own) for own in texts])[:-1]
        return normalize_rows(np.stack([part.mean(0) for part in np.split(result, boundaries)]))

    @check_arguments
    def logits(self, vectors: np.ndarray) -> np.ndarray:
        """The logits `[rows, k]` of embeddings `[rows, dim]` of the input.

        Raises:
            DataError: the array has another shape or is not numeric.
        """
        if vectors.ndim != 2 or vectors.dtype.kind not in "fiu" or vectors.shape[1] != self.class_embeddings.shape[1]:
            wanted, given = f"[rows, {self.class_embeddings.shape[1]}]", list(vectors.shape)
            raise DataError(f"embeddings must be a numeric array {wanted}, not {vectors.dtype} {given}")
        result: np.ndarray = self.logit_scale * (vectors.astype(np.float64) @ self.class_embeddings.T)
        return result

    @check_arguments
    def predict_proba(self, data: Any, *, root: Path | str | None = None, strict: bool = False) -> Any:
        """Probabilities `[rows, k]` in the order of `classes`; NaN for rows without the input. An array, or a frame of
        the kind of `data`, as in `Model.predict_proba`.

        data, root, strict: as in `Model.predict`; only the columns of the input are read
        """
        (name,) = self.task.columns
        found = self._probabilities(data, root, strict)
        return shaped_probabilities(data, {name: found}, {name: self.task.class_labels})

    @check_arguments
    def predict(self, data: Any, *, root: Path | str | None = None, strict: bool = False) -> Any:
        """The predicted class of each row, in the form of `Model.predict`; None for rows without the input."""
        (name,) = self.task.columns
        return shaped_values(data, {name: self.task.predict(self._probabilities(data, root, strict))})

    def _probabilities(self, data: Any, root: Path | str | None, strict: bool) -> np.ndarray:
        vectors = self.model.embed(data, input=self.input, root=root, strict=strict)
        return softmax(self.logits(vectors), axis=1)

    @check_arguments
    def evaluate(self, data: Any, *, root: Path | str | None = None, strict: bool = False) -> dict[str, Any]:
        """Scores on rows with a class in the target column, by output and metric as in `Model.evaluate`. Accuracy also
        has an exact test against chance, see `score_classification`. Cells with an unknown class are bad cells.

        Raises:
            DataError: a column is missing; no row has a known class; (strict) a cell cannot be used.
        """
        table = self.open(data, root, targets=True)
        return self.score(self._probabilities(table, None, strict), table, strict=strict)

    @check_arguments
    def score(self, probabilities: np.ndarray, table: Table, *, strict: bool = False) -> dict[str, Any]:
        """Like `evaluate`, for `probabilities [rows, k]` that were already predicted for the rows of `table`."""
        expected = (len(table), self.task.output_size)
        if probabilities.shape != expected or probabilities.dtype.kind != "f":
            given = f"{probabilities.dtype} {list(probabilities.shape)}"
            raise DataError(f"probabilities must be an array of decimals {list(expected)}, not {given}")
        cell_errors = CellErrors(strict)
        value, present = read_target(self.task, table, cell_errors)
        warn_cell_errors(cell_errors.errors)
        return {self.task.columns[0]: score_classification(self.task, self.model, probabilities, value, present)}

    @check_arguments
    def open(self, data: Any, root: Path | str | None = None, *, targets: bool = False) -> Table:
        """Open `data` as a table with the columns of the input (and the target).

        Raises:
            DataError: a column is missing.
        """
        columns = [*self.model.recipe.inputs[self.input].columns, *(self.task.columns if targets else [])]
        return self.model.open_columns(data, root, columns)

    @check_arguments
    def stream(self, table: Table, cell_errors: CellErrors) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        """Row numbers and their probabilities, as in `Model.stream`, in a single block."""
        yield np.arange(len(table)), {self.task.columns[0]: self._probabilities(table, None, cell_errors.strict)}


def class_prompts(classes: Classes, templates: Sequence[str] | None) -> dict[str, list[str]]:
    """The prompts of each class, by class name: every description (or the name) in every template.

    Raises:
        RecipeError: there are fewer than two classes, or a class twice; a template has no `{}`.

    Example:
        >>> class_prompts(["cat", "dog"], ["a photo of a {}"])
        {'cat': ['a photo of a cat'], 'dog': ['a photo of a dog']}
    """
    if isinstance(classes, str):
        raise RecipeError("classes", f"must be a list of names or a mapping, not the text {classes!r}")
    class_names = list(classes)
    for name in class_names:
        if not isinstance(name, str) or not name.strip():
            raise RecipeError("classes", f"a class name must be a non-empty text, not {name!r}")
        if class_names.count(name) > 1:
            raise RecipeError("classes", f"the class {name!r} is given twice")
    if len(class_names) < 2:
        raise RecipeError("classes", f"give at least two classes, not {class_names}")
    templates = list(templates or ["{}"])
    for template in templates:
        if "{}" not in template:
            raise RecipeError("templates", f"{template!r} has no placeholder {{}} for the class name")
    result = {}
    for name in class_names:
        value = classes[name] if isinstance(classes, Mapping) else name
        descriptions = [value] if isinstance(value, str) else list(value)
        if not descriptions or not all(isinstance(one, str) and one.strip() for one in descriptions):
            raise RecipeError(f"classes.{name}", f"must be one or several descriptions, not {value!r}")
        result[name] = [template.replace("{}", one) for one in descriptions for template in templates]
    return result


def aligned_inputs(model: Model, input: str | None, text: str | None) -> tuple[str, str]:
    """The input to classify and the text input that is aligned with it, with the defaults of `ZeroShot`.

    Raises:
        RecipeError: there is no such input, or the choice is ambiguous.
        PolymodalError: the model has not aligned texts with an input.
    """
    alignment = require_alignment(model)
    text = _text_input(model, alignment, input, text)
    return _classified_input(alignment, text, input), text


def require_alignment(model: Model) -> Alignment:
    """The alignment objective of a model.

    Raises:
        PolymodalError: the model has none.
    """
    alignment = model.alignment
    if alignment is None:
        raise PolymodalError(
            "zero-shot classification needs a model that has aligned texts with another input, and this model has no "
            "alignment objective; train one with `polymodal pretrain --objective contrastive` on rows that pair "
            "texts with the input"
        )
    return alignment


def _text_input(model: Model, alignment: Alignment, input: str | None, text: str | None) -> str:
    text_inputs = [name for name in alignment.inputs if model.recipe.inputs[name].modality.name == "text"]  # type: ignore[union-attr]
    if text is not None:
        if text not in text_inputs:
            raise RecipeError("text", f"{text!r} is not an aligned text input; {did_you_mean(text, text_inputs)}")
        return text
    text_inputs = [name for name in text_inputs if name != input]
    if len(text_inputs) == 1:
        return text_inputs[0]
    if not text_inputs:
        raise PolymodalError(
            "zero-shot classification needs an aligned text input, and this model has aligned only "
            f"{', '.join(alignment.inputs)}"
        )
    raise RecipeError("text", f"several aligned inputs are texts ({', '.join(text_inputs)}); choose one")


def _classified_input(alignment: Alignment, text: str, input: str | None) -> str:
    others = [name for name in alignment.inputs if name != text]
    if input is not None:
        if input not in others:
            raise RecipeError("input", f"{input!r} is not aligned with {text!r}; {did_you_mean(input, others)}")
        return input
    if len(others) > 1:
        raise RecipeError("input", f"several inputs are aligned with {text!r} ({', '.join(others)}); choose one")
    return others[0]
