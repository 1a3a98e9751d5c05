"""One fixed matrix for each input, on which baselines learn and the audit is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from polymodal.core.errors import RecipeError
from polymodal.core.paths import media_cache_folder
from polymodal.core.progress import Progress
from polymodal.core.registry import build, find
from polymodal.data.store.items import PreparedInput
from polymodal.data.table.cell_errors import CellErrors
from polymodal.metrics.retrieval import normalize_rows
from polymodal.modalities.base import Modality
from polymodal.modalities.category import FIRST
from polymodal.modalities.text import as_text
from polymodal.nn.encoders.base import Encoder
from polymodal.nn.encoders.pretrained import PretrainedEncoder
from polymodal.preparation.feature_cache import FeatureItems, FeatureSettings, encode_frozen_input, mean_features
from polymodal.recipe.recipe import InputSpec
from polymodal.runtime.random_state import isolated_random_state
from polymodal.tuning.folds import Folds
from polymodal.tuning.media_statistics import STATISTICS, summary_statistics

#: Numbers in the matrix of one text input at most, and its columns at least and at most.
MAX_VALUES, COLUMNS = 50_000_000, (256, 4_096)

#: Before the name of a text whose words are read beside its checkpoint's summary.
WORDS_PREFIX = "words of "


@dataclass(frozen=True)
class _FeatureMatrix:
    """Numbers that say the same of a row in every fold: `values [rows, n]`, whether the row has the input, and whether
    they are a checkpoint's summary, which learned what its dimensions are worth to each other."""

    values: np.ndarray
    present: np.ndarray
    summary: bool = False


class FrozenFeatures:
    """One matrix `[rows, n + 1]` float32 of each input and fold. The last column is 1 where the row has the input and 0
    where it has not; the other columns of such a row are 0.

    Inputs with a pretrained encoder: the summaries of the frozen checkpoint, through the feature cache, brought to
    length 1. Numbers and
    categories: as prepared for the network, categories one column a label. Text: TF-IDF of words and pairs of words
    (Salton and Buckley, "Term-weighting approaches in automatic text retrieval", 1988). Pictures, sounds, clips and
    series: see `statistics`. Whatever is learned (words, means, deviations, labels) is learned from the fold's rows of
    training and validation; all but summaries, TF-IDF and labels have mean 0 and deviation 1 there.

    inputs: the inputs that have a matrix; privileged inputs have none, since a model must do without them
    words: beside them, the words of texts that have a checkpoint (`words of NAME`)
    notes: which inputs were left out, and why
    faults: cells of media that cannot be used
    """

    def __init__(self, folds: Folds, *, progress: Progress) -> None:
        self.folds, self.progress = folds, progress
        self.inputs: list[str] = []
        self.words: list[str] = []
        self.faults = CellErrors(folds.recipe.data.strict)
        self.notes: list[str] = []
        self._fixed: dict[str, _FeatureMatrix] = {}
        self._texts: dict[str, list[str]] = {}
        self._made: dict[tuple[str, int], np.ndarray] = {}
        for name, spec in folds.recipe.inputs.items():
            if name in folds.recipe.privileged:
                self.notes.append(f"input {name!r} is privileged: a model must do without it, so no baseline sees it")
            elif self._read(name, spec):
                self.inputs.append(name)
            else:
                kind = spec.modality.name if spec.modality else "?"
                self.notes.append(f"input {name!r}: there are no fixed features of the modality {kind!r}")

    def matrix(self, name: str, fold: int) -> np.ndarray:
        """The matrix of an input, fitted on what `fold` learns from, for every row of the table."""
        if (name, fold) not in self._made:
            parts = self.folds.parts[fold]
            learned = np.sort(np.concatenate([parts["train"].rows, parts["valid"].rows]))
            self._made[name, fold] = self._matrix(name, learned)
        return self._made[name, fold]

    def _matrix(self, name: str, learned: np.ndarray) -> np.ndarray:
        if name in self._fixed:
            fixed = self._fixed[name]
            if fixed.summary:
                return _with_flag(normalize_rows(fixed.values), fixed.present)
            return _standardize(fixed.values, fixed.present, learned)
        if name in self._texts:
            return _tfidf(self._texts[name], learned)
        modality = self._modality(name)
        table, limits = self.folds.table, self.folds.recipe.data.limits
        modality.fit(table.blocks(learned, modality.columns, faults=CellErrors(), limits=limits))
        values, present = self._gathered(modality, _encode_cells)
        return (
            _standardize(values, present, learned) if modality.options.name == "number" else _with_flag(values, present)
        )

    def _read(self, name: str, spec: InputSpec) -> bool:
        """Take what needs no fold from the table; False where the input has no features."""
        kind = spec.modality.name if spec.modality else ""
        encoder = find("encoder", spec.encoder.name) if spec.encoder else Encoder
        if issubclass(encoder, PretrainedEncoder):
            with self.progress.task(f"features of {name}", None):
                self._fixed[name] = self._pretrained(name, spec)
            if kind == "text":
                self._texts[WORDS_PREFIX + name] = [text.lower() for text in self._cells(spec)]
                self.words.append(WORDS_PREFIX + name)
        elif kind in STATISTICS:
            with self.progress.task(f"features of {name}", None):
                modality = self._modality(name)
                self._fit_on_all(modality)
                shape = modality.shape()
                self._fixed[name] = _FeatureMatrix(
                    *self._gathered(modality, lambda prepared, _: summary_statistics(prepared.items, kind, shape))
                )
        elif kind == "text":
            lowered, texts = getattr(spec.modality, "lowercase", False), self._cells(spec)
            self._texts[name] = [text.lower() for text in texts] if lowered else texts
        else:
            return kind in ("number", "category")
        return True

    def _cells(self, spec: InputSpec) -> list[str]:
        """The texts of every row, "" where there is none."""
        cells = self.folds.table.values(spec.columns[0], np.arange(len(self.folds.table)))
        return [as_text(cell) or "" for cell in (cells if isinstance(cells, list) else cells.to_pylist())]

    def _pretrained(self, name: str, spec: InputSpec) -> _FeatureMatrix:
        """The checkpoint's own summary of each item, whatever of it the recipe tunes."""
        assert spec.encoder is not None
        modality = self._modality(name)
        self._fit_on_all(modality)
        known = type(spec.encoder).model_fields
        wanted = {"tokens": 1, "tune": "frozen"}
        options = spec.encoder.model_copy(update={key: value for key, value in wanted.items() if key in known})
        recipe = self.folds.recipe
        path = f"inputs.{name}.encoder"
        with isolated_random_state():
            encoder: Encoder = build("encoder", options, path, shape=modality.shape(), width=recipe.hidden_size)
        try:
            encoder.load_pretrained()
        except RecipeError as error:
            raise error.with_prefix(path) from None

        def summaries(prepared: PreparedInput, modality: Modality) -> np.ndarray:
            settings = FeatureSettings(recipe.training.feature_cache, recipe.data.limits)
            found = encode_frozen_input(encoder, modality, prepared, settings, folder=media_cache_folder())
            if found is None or not isinstance(found.items, FeatureItems):
                raise RecipeError(path, "this encoder has no frozen layers whose features could be kept")
            return mean_features(found.items)

        return _FeatureMatrix(*self._gathered(modality, summaries), summary=True)

    def _modality(self, name: str) -> Modality:
        spec = self.folds.recipe.inputs[name]
        made: Modality = build("modality", spec.modality, f"inputs.{name}", columns=spec.columns)
        return made

    def _fit_on_all(self, modality: Modality) -> None:
        """For modalities whose items do not depend on what is learned (the size of pictures is an option)."""
        rows = np.arange(len(self.folds.table))
        modality.fit(self._blocks(modality, rows))

    def _blocks(self, modality: Modality, rows: np.ndarray, faults: CellErrors | None = None) -> Any:
        table, limits = self.folds.table, self.folds.recipe.data.limits
        size = int(np.clip(256 * 2**20 / max(modality.row_bytes(), 1.0), 16, 4096))
        return table.blocks(
            rows, modality.columns, size, faults=faults or CellErrors(), limits=limits, cache=media_cache_folder()
        )

    def _gathered(self, modality: Modality, describe: Any) -> tuple[np.ndarray, np.ndarray]:
        """What `describe(prepared, modality)` says of each item, row by row, and which rows have one."""
        parts, there = [], []
        for block in self._blocks(modality, np.arange(len(self.folds.table)), self.faults):
            prepared = modality.prepare(block)
            present = prepared.index >= 0
            found = describe(prepared, modality)
            values = np.zeros((len(block), found.shape[1]), np.float32)
            if present.any():
                values[present] = found[prepared.index[present]]
            parts.append(values)
            there.append(present)
        width = max(part.shape[1] for part in parts)  # a block in which no row has the input knows no columns
        parts = [part if part.shape[1] else np.zeros((len(part), width), np.float32) for part in parts]
        return np.concatenate(parts), np.concatenate(there)


def _encode_cells(prepared: PreparedInput, modality: Modality) -> np.ndarray:
    """Numbers with a column that says which are known; labels as one column each."""
    arrays = prepared.items.take(np.arange(len(prepared.items)))
    if "ids" not in arrays:
        return np.concatenate([arrays["values"], arrays["known"]], axis=1).astype(np.float32)
    columns = [
        ids[:, None] == np.arange(1, size)  # number 0 is a missing label
        for ids, size in zip(arrays["ids"].T, modality.shape()["sizes"], strict=True)
        if size > FIRST
    ]
    return np.concatenate([np.zeros((len(arrays["ids"]), 0)), *columns], axis=1).astype(np.float32)


def _with_flag(values: np.ndarray, present: np.ndarray) -> np.ndarray:
    return np.concatenate([np.where(present[:, None], values, 0), present[:, None]], axis=1).astype(np.float32)


def _standardize(values: np.ndarray, present: np.ndarray, learned: np.ndarray) -> np.ndarray:
    """Columns of mean 0 and deviation 1 over the rows that are learned from and have the input; constant ones are 0."""
    seen = values[learned[present[learned]]].astype(np.float64)
    mean = seen.mean(0) if len(seen) else np.zeros(values.shape[1])
    deviation = seen.std(0) if len(seen) else np.zeros(values.shape[1])
    constant = deviation <= 1e-6 * np.maximum(np.abs(mean), 1e-12)
    scaled = (values - mean) / np.where(constant, 1.0, deviation)
    return _with_flag(np.where(constant, 0.0, scaled).clip(-10, 10), present)


def _tfidf(texts: list[str], learned: np.ndarray) -> np.ndarray:
    from sklearn.feature_extraction.text import TfidfVectorizer

    present = np.array([bool(text) for text in texts])
    most = int(np.clip(MAX_VALUES / max(1, len(texts)), *COLUMNS))
    words = TfidfVectorizer(
        ngram_range=(1, 2), sublinear_tf=True, max_features=most, token_pattern=r"\w+", dtype=np.float32
    )
    try:
        words.fit([texts[row] for row in learned if texts[row]])
    except ValueError:  # no text, or none with a word
        return _with_flag(np.zeros((len(texts), 0), np.float32), present)
    return _with_flag(words.transform(texts).toarray(), present)
