"""A classifier from a few labelled rows, on a model that embeds."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from scipy.special import softmax

from polymodal._version import __version__
from polymodal.applications.few_shot.classes import Names, read_target, score_names
from polymodal.applications.few_shot.heads import HEADS, Head, LinearProbe, Prototypes, TipAdapter
from polymodal.applications.few_shot.zero_shot import ZeroShot, aligned_inputs
from polymodal.checkpoint.model_directory import file_sum, read_json, write_json
from polymodal.core.errors import ArtefactError, DataError, PolymodalError, RecipeError, nearest
from polymodal.data.table.cell_errors import Faults, warn_of_faults
from polymodal.data.table.table import Table
from polymodal.model.model import Model
from polymodal.tasks.base import Task

FILE, ARRAYS = "few_shot.json", "head.safetensors"
FORMAT = 1

HeadName = Literal["prototypes", "linear", "tip"]


class FewShot:
    """Classes learned from a few labelled rows by a head on a model's embeddings; the model stays as it is.

    `FewShot.fit` learns one, `FewShot.load` reads one back. It predicts as a model does.

    input: the input that is embedded; None: the whole row
    folder: the directory of the model, where it has one
    """

    def __init__(self, model: Model, head: Head, names: Names, *, input: str | None, folder: Path | None) -> None:
        self.model, self.head, self.names, self.input, self.folder = model, head, names, input, folder

    @classmethod
    def fit(
        cls,
        model: Model | Path | str,
        rows: Any,
        target: str,
        head: HeadName = "prototypes",
        input: str | None = None,
        *,
        descriptions: Mapping[str, str | Sequence[str]] | None = None,
        templates: Sequence[str] | None = None,
        root: Path | str | None = None,
        strict: bool = False,
    ) -> FewShot:
        """Learn the classes of the column `target` of `rows`; see `heads` for what each head is.

        model: a model, or the directory of one
        rows, root, strict: as for `Model.evaluate`; rows without the target or the input are left out
        input: the input to embed; silent: the whole row. For `tip` the input that is aligned with texts.
        descriptions, templates: for `tip` alone, the texts of the classes as in `ZeroShot`; silent: their names

        Raises:
            RecipeError: there is no such head or input; texts of classes for another head than `tip`.
            DataError: a column is not there; fewer than two classes have rows; (strict) a cell cannot be used.
            PolymodalError: `tip`, and the model has not aligned texts with the input.
        """
        if head not in HEADS:
            raise RecipeError("head", f"there is no head {head!r}; {nearest(head, HEADS)}")
        if head != "tip" and (descriptions or templates):
            raise RecipeError("templates" if templates else "descriptions", f"the head {head!r} reads no texts")
        folder = Path(model) if isinstance(model, Path | str) else None
        model = Model.load(model) if isinstance(model, Path | str) else model
        if head == "tip":
            input, _ = aligned_inputs(model, input, None)
        table = model.open_columns(rows, root, [*_columns(model, input), target])
        names, faults = Names(target), Faults(strict)
        value, present = read_target(names, table, faults, fit=True)
        warn_of_faults(faults.found)
        zero_shot = _zero_shot(model, names, descriptions, templates, input) if head == "tip" else None
        features = model.embed(table, input=input, strict=strict).astype(np.float64)
        known = present & ~np.isnan(features).any(1)
        lacking = set(range(names.outputs)) - set(value[known].tolist())
        if lacking:
            name = names.classes[min(lacking)]
            raise DataError(f"no row of the class {name!r} has the input", column=target)
        return cls(
            model, _fitted(head, features[known], value[known], names, zero_shot), names, input=input, folder=folder
        )

    @property
    def classes(self) -> list[str]:
        """The classes in the order of columns of `predict_proba`."""
        return self.names.classes

    @property
    def tasks(self) -> dict[str, Task]:
        """The one output, as of a model."""
        return {self.names.columns[0]: self.names}

    def predict_proba(self, data: Any, *, root: Path | str | None = None, strict: bool = False) -> np.ndarray:
        """Probabilities `[rows, k]` in the order of `classes`; NaN in rows that lack the input.

        data, root, strict: as for `Model.predict`; only the columns of the input are read
        """
        vectors = self.model.embed(data, input=self.input, root=root, strict=strict)
        return softmax(self.head.logits(vectors.astype(np.float64)), axis=1)

    def predict(self, data: Any, *, root: Path | str | None = None, strict: bool = False) -> list[Any]:
        """The class of each row, as the labelled rows wrote it; None in rows that lack the input."""
        return self.names.predict(self.predict_proba(data, root=root, strict=strict))

    def evaluate(self, data: Any, *, root: Path | str | None = None, strict: bool = False) -> dict[str, Any]:
        """Scores on rows whose target is known, by output and metric as `Model.evaluate`; see `classes.score_names`."""
        target = self.names.columns[0]
        table, faults = self.open(data, root, targets=True), Faults(strict)
        value, present = read_target(self.names, table, faults)
        warn_of_faults(faults.found)
        probabilities = self.predict_proba(table, strict=strict)
        return {target: score_names(self.names, self.model, probabilities, value, present)}

    def open(self, data: Any, root: Path | str | None = None, *, targets: bool = False) -> Table:
        """`data` as a table that has the columns of the input (and the target)."""
        wanted = [*_columns(self.model, self.input), *(self.names.columns if targets else [])]
        return self.model.open_columns(data, root, wanted)

    def stream(self, table: Table, faults: Faults) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        """Row numbers and their probabilities, as `Model.stream`, of all rows at once."""
        found = self.predict_proba(table, strict=faults.strict)
        yield np.arange(len(table)), {self.names.columns[0]: found}

    def save(self, folder: Path | str) -> Path:
        """Write `few_shot.json` and `head.safetensors`. A model that was given by its directory is named there by its
        path from `folder` and its checksum; one that was given in memory is written into `folder/model`.

        Raises:
            PolymodalError: the folder holds a model.
        """
        folder = Path(folder)
        if (folder / "manifest.json").exists():
            raise PolymodalError(f"{folder} holds a model: choose another directory for the head")
        folder.mkdir(parents=True, exist_ok=True)
        place = self.folder if self.folder is not None else self.model.save(folder / "model")
        arrays, chosen = self.head.state()
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, folder / ARRAYS)
        facts = {
            "format": FORMAT,
            "polymodal": __version__,
            "model": os.path.relpath(place.resolve(), folder.resolve()),
            "manifest": file_sum(place / "manifest.json"),
            "head": self.head.name,
            "chosen": chosen,
            "input": self.input,
            "target": self.names.columns[0],
            "names": self.names.save(),
            "sha256": {ARRAYS: file_sum(folder / ARRAYS)},
        }
        write_json(folder / FILE, facts)
        return folder

    @classmethod
    def load(cls, folder: Path | str, model: Path | str | None = None) -> FewShot:
        """Read what `save` wrote.

        model: the directory of the model, where it has moved

        Raises:
            ArtefactError: a file is missing, altered, or of a later format; the model is another than the head's.
        """
        folder = Path(folder)
        if not (folder / FILE).is_file():
            raise ArtefactError(f"{folder} holds no few-shot head: it has no {FILE}")
        facts = read_json(folder / FILE)
        if not isinstance(facts, dict) or facts.get("format") != FORMAT:
            raise ArtefactError(f"{folder / FILE} is damaged, or of a format that this polymodal does not read")
        place = Path(model) if model is not None else folder / facts["model"]
        if not (place / "manifest.json").is_file():
            raise ArtefactError(f"the model of {folder} is not in {place}; name the directory to which it was moved")
        if file_sum(place / "manifest.json") != facts["manifest"]:
            raise ArtefactError(f"{place} is not the model that {folder} was fitted on; fit the head again")
        if not (folder / ARRAYS).is_file() or file_sum(folder / ARRAYS) != facts["sha256"][ARRAYS]:
            raise ArtefactError(f"{folder / ARRAYS} is missing or was altered; fit the head again")
        try:
            arrays = load_file(folder / ARRAYS)
        except SafetensorError as error:
            raise ArtefactError(f"{folder / ARRAYS} cannot be read: {error}") from None
        names = Names(facts["target"])
        names.load(facts["names"])
        head = HEADS[facts["head"]].restored(arrays, facts["chosen"])
        return cls(Model.load(place), head, names, input=facts["input"], folder=place)


def _columns(model: Model, input: str | None) -> list[str]:
    """The columns that an embedding of `input` reads.

    Raises:
        RecipeError: there is no such input.
    """
    inputs = model.recipe.inputs
    if input is None:
        return model.preparation.input_columns
    if input not in inputs:
        raise RecipeError("input", f"there is no input {input!r}; {nearest(input, inputs)}")
    return inputs[input].columns


def _zero_shot(
    model: Model,
    names: Names,
    descriptions: Mapping[str, str | Sequence[str]] | None,
    templates: Sequence[str] | None,
    input: str | None,
) -> ZeroShot:
    """The zero-shot classifier of the classes of `names`.

    Raises:
        RecipeError: descriptions of other classes than those of the labelled rows.
    """
    if descriptions is not None and sorted(descriptions) != sorted(names.classes):
        raise RecipeError(
            "descriptions", f"they are of {sorted(descriptions)}, and the rows of {sorted(names.classes)}"
        )
    return ZeroShot(model, descriptions or names.classes, input=input, templates=templates)


def _fitted(head: str, features: np.ndarray, target: np.ndarray, names: Names, zero_shot: ZeroShot | None) -> Head:
    if head == "linear":
        return LinearProbe.fit(features, target, names.outputs)
    if zero_shot is None:
        return Prototypes.fit(features, target, names.outputs)
    texts = zero_shot.vectors[[zero_shot.classes.index(name) for name in names.classes]]
    return TipAdapter.fit(features, target, names.outputs, texts=texts, scale=zero_shot.scale)
