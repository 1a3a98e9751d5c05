"""Zero-shot classification: classes are named by texts that lie in one space with what is classified."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax

from polymodal.applications.few_shot.classes import Names, read_target, score_names
from polymodal.core.errors import PolymodalError, RecipeError, nearest
from polymodal.data.table.cell_errors import Faults, warn_of_faults
from polymodal.data.table.table import Table
from polymodal.metrics.retrieval import unit_rows
from polymodal.model.model import Model
from polymodal.nn.objectives.alignment import Alignment
from polymodal.tasks.base import Task

Classes = Sequence[str] | Mapping[str, str | Sequence[str]]


class ZeroShot:
    """A classifier of classes that no label taught, on a model that aligned texts with another input.

    Each class has texts: its name, or its descriptions, in every template. Its vector is the mean of their unit
    vectors, of unit length again, and a row's probabilities are (Radford et al., "Learning Transferable Visual Models
    From Natural Language Supervision", 2021, section 3.1)

        w_c = unit(mean_j text(c, j)) ;  p_c = softmax_c(s  x . w_c),    s = 1 / temperature of the alignment

    model: a model, or the directory of one
    classes: names, or a mapping from names to a description or several
    input: what is classified; silent: the input that is aligned with texts, where there is one
    text: the aligned input that reads texts; silent: the one there is
    templates: texts with a place `{}` for the name or description; a name by itself if there are none
    target: the column of the true class, by which the one output is called and which `evaluate` reads

    Raises:
        RecipeError: classes are empty, fewer than two, or repeated; a template has no `{}`; there is no such input.
        PolymodalError: the model has not aligned texts with the input.
    """

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
        texts = class_texts(classes, templates)
        self.names = Names.of(target, list(texts))
        self.scale = float(alignment_of(self.model).scale.detach())
        self.vectors = self._class_vectors([texts[name] for name in self.classes])

    @property
    def classes(self) -> list[str]:
        """The classes in the order of columns of `predict_proba`, which is that of the alphabet."""
        return self.names.classes

    @property
    def tasks(self) -> dict[str, Task]:
        """The one output, as of a model."""
        return {self.names.columns[0]: self.names}

    def _class_vectors(self, texts: list[list[str]]) -> np.ndarray:
        """One unit vector for each class, `[k, size]` float64."""
        column = self.model.recipe.inputs[self.text].columns[0]
        flat = [text for own in texts for text in own]
        found = self.model.embed({column: flat}, input=self.text, strict=True).astype(np.float64)
        if np.isnan(found).any():
            text = flat[int(np.isnan(found).any(1).argmax())]
            raise RecipeError("classes", f"the model reads nothing in the text {text!r}")
        cuts = np.cumsum([len(own) for own in texts])[:-1]
        return unit_rows(np.stack([part.mean(0) for part in np.split(found, cuts)]))

    def logits(self, vectors: np.ndarray) -> np.ndarray:
        """The logits `[rows, k]` of embeddings `[rows, size]` of the input."""
        found: np.ndarray = self.scale * (vectors.astype(np.float64) @ self.vectors.T)
        return found

    def predict_proba(self, data: Any, *, root: Path | str | None = None, strict: bool = False) -> np.ndarray:
        """Probabilities `[rows, k]` in the order of `classes`; NaN in rows that lack the input.

        data, root, strict: as for `Model.predict`; only the columns of the input are read
        """
        vectors = self.model.embed(data, input=self.input, root=root, strict=strict)
        return softmax(self.logits(vectors), axis=1)

    def predict(self, data: Any, *, root: Path | str | None = None, strict: bool = False) -> list[str | None]:
        """The class of each row; None in rows that lack the input."""
        return self.names.predict(self.predict_proba(data, root=root, strict=strict))

    def evaluate(self, data: Any, *, root: Path | str | None = None, strict: bool = False) -> dict[str, Any]:
        """Scores on rows whose class stands in the target column, by output and metric as `Model.evaluate`; accuracy
        also with an exact test against chance, see `classes.score_names`. Cells that hold none of the classes are
        faults.

        Raises:
            DataError: a column is not there; no row has one of the classes; (strict) a cell cannot be used.
        """
        table = self.open(data, root, targets=True)
        return self.score(self.predict_proba(table, strict=strict), table, strict=strict)

    def score(self, probabilities: np.ndarray, table: Table, *, strict: bool = False) -> dict[str, Any]:
        """As `evaluate`, of `probabilities [rows, k]` that are known already for the rows of `table`."""
        faults = Faults(strict)
        value, present = read_target(self.names, table, faults)
        warn_of_faults(faults.found)
        return {self.names.columns[0]: score_names(self.names, self.model, probabilities, value, present)}

    def open(self, data: Any, root: Path | str | None = None, *, targets: bool = False) -> Table:
        """`data` as a table that has the columns of the input (and the target).

        Raises:
            DataError: a column is not there.
        """
        wanted = [*self.model.recipe.inputs[self.input].columns, *(self.names.columns if targets else [])]
        return self.model.open_columns(data, root, wanted)

    def stream(self, table: Table, faults: Faults) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        """Row numbers and their probabilities, as `Model.stream`, of all rows at once."""
        yield np.arange(len(table)), {self.names.columns[0]: self.predict_proba(table, strict=faults.strict)}


def class_texts(classes: Classes, templates: Sequence[str] | None) -> dict[str, list[str]]:
    """The texts of each class, by its name: every description (or the name itself) in every template.

    Raises:
        RecipeError: classes are empty, fewer than two, or repeated; a template has no `{}`.
    """
    if isinstance(classes, str):
        raise RecipeError("classes", f"give a list of names or a mapping, not the text {classes!r}")
    named = list(classes)
    for name in named:
        if not isinstance(name, str) or not name.strip():
            raise RecipeError("classes", f"a class has a text for its name, not {name!r}")
        if named.count(name) > 1:
            raise RecipeError("classes", f"{name!r} is named twice")
    if len(named) < 2:
        raise RecipeError("classes", f"there is nothing to choose from: name two or more, not {named}")
    templates = list(templates or ["{}"])
    for template in templates:
        if "{}" not in template:
            raise RecipeError("templates", f"{template!r} has no place {{}} for the name of a class")
    found = {}
    for name in named:
        given = classes[name] if isinstance(classes, Mapping) else name
        descriptions = [given] if isinstance(given, str) else list(given)
        if not descriptions or not all(isinstance(one, str) and one.strip() for one in descriptions):
            raise RecipeError(f"classes.{name}", f"it needs a description, or several, not {given!r}")
        found[name] = [template.replace("{}", one) for one in descriptions for template in templates]
    return found


def aligned_inputs(model: Model, input: str | None, text: str | None) -> tuple[str, str]:
    """The input to classify and the input of texts that is aligned with it, as `ZeroShot` chooses them.

    Raises:
        RecipeError: there is no such input, or several that could be meant.
        PolymodalError: the model has not aligned texts with an input.
    """
    alignment = alignment_of(model)
    text = _text_input(model, alignment, input, text)
    return _classified(alignment, text, input), text


def alignment_of(model: Model) -> Alignment:
    """The alignment of a model.

    Raises:
        PolymodalError: it has none.
    """
    alignment = model.alignment
    if alignment is None:
        raise PolymodalError(
            "zero-shot classes need a model that aligned texts with another input, and this one aligned nothing: "
            "`polymodal pretrain` with the objective contrastive, on rows that have a text and what it tells of"
        )
    return alignment


def _text_input(model: Model, alignment: Alignment, input: str | None, text: str | None) -> str:
    readers = [name for name in alignment.inputs if model.recipe.inputs[name].modality.name == "text"]  # type: ignore[union-attr]
    if text is not None:
        if text not in readers:
            raise RecipeError("text", f"{text!r} is no aligned input of texts; {nearest(text, readers)}")
        return text
    readers = [name for name in readers if name != input]
    if len(readers) == 1:
        return readers[0]
    if not readers:
        raise PolymodalError(
            f"zero-shot classes need an aligned input of texts, and this model aligned {', '.join(alignment.inputs)}"
        )
    raise RecipeError("text", f"several aligned inputs read texts ({', '.join(readers)}): name one")


def _classified(alignment: Alignment, text: str, input: str | None) -> str:
    others = [name for name in alignment.inputs if name != text]
    if input is not None:
        if input not in others:
            raise RecipeError("input", f"{input!r} is not aligned with {text!r}; {nearest(input, others)}")
        return input
    if len(others) > 1:
        raise RecipeError("input", f"several inputs are aligned with {text!r} ({', '.join(others)}): name one")
    return others[0]
