"""Frozen features: one matrix per input, for the baselines and the audit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from polymodal.core.errors import RecipeError
from polymodal.core.paths import media_cache_folder
from polymodal.core.progress import Progress
from polymodal.core.registry import build, find
from polymodal.data.store.items import PreparedInput
from polymodal.data.table.cell_errors import CellErrors
from polymodal.experiments.stored_inputs import is_features
from polymodal.features.base import FeatureSource
from polymodal.features.embedding import EmbeddingFeatures
from polymodal.features.feature_set import selected_items
from polymodal.features.media_statistics import STATISTICS, summary_statistics
from polymodal.modalities.base import Modality
from polymodal.modalities.category import FIRST_LABEL
from polymodal.modalities.text import parse_text
from polymodal.nn.encoders.base import Encoder
from polymodal.nn.encoders.pretrained import PretrainedEncoder
from polymodal.nn.encoders.windowed import build_encoder
from polymodal.preparation.feature_cache import FeatureItems, FeatureSettings, feature_hash
from polymodal.recipe.recipe import InputSpec
from polymodal.runtime.random_state import isolated_random_state
from polymodal.tuning.folds import Folds

#: Maximum number of values in the TF-IDF matrix of a text input, and the limits of its number of columns.
MAX_VALUES, COLUMNS = 50_000_000, (256, 4_096)

#: Why an input of a store of prepared rows has no features.
OTHER_LAYERS = "the store of prepared rows holds the output of other layers, so baselines do not use it"

#: Prefix of the name of the TF-IDF features of a text input that also has a pretrained encoder.
WORDS_PREFIX = "words of "


@dataclass(frozen=True)
class _FeatureMatrix:
    """Features that do not depend on the fold: `values [rows, n]`, and whether each row has the input, `present
    [rows]`.

    is_pretrained: whether they are the pooled output of a pretrained encoder, whose columns are not standardized
    """

    values: np.ndarray
    present: np.ndarray
    is_pretrained: bool = False


class FrozenFeatures:
    """One matrix `[rows, n + 1]` float32 for each input and fold. The last column is 1 if the row has the input, else
    0; without the input, all other columns are 0.

    Inputs with a pretrained encoder: the pooled output of the frozen encoder (from the feature cache), scaled to length
    1. Numbers, dates and categories: as prepared for the network, categories one-hot. Text: TF-IDF of unigrams and
    bigrams (Salton and Buckley, "Term-weighting approaches in automatic text retrieval", 1988). Images, audio, video
    and time series: see `features.media_statistics`. Vocabularies, means, standard deviations and labels are fitted on
    the training and validation rows of the fold. All features except pooled outputs, TF-IDF and labels are standardized
    on these rows.

    inputs: the inputs with a matrix; privileged inputs have none, since they are not available at prediction time
    words: TF-IDF features of text inputs that have a pretrained encoder (`words of NAME`)
    notes: the inputs that were skipped, with reasons
    cell_errors: media cells that cannot be used
    """

    def __init__(self, folds: Folds, *, progress: Progress) -> None:
        self.folds, self.progress = folds, progress
        self.inputs: list[str] = []
        self.words: list[str] = []
        self.cell_errors = CellErrors(folds.recipe.data.strict)
        self.notes: list[str] = []
        self._fold_free: dict[str, _FeatureMatrix] = {}
        self._raw_texts: dict[str, list[str]] = {}
        self._matrices: dict[tuple[str, int], np.ndarray] = {}
        for name, spec in folds.recipe.inputs.items():
            if name in folds.recipe.privileged:
                self.notes.append(f"input {name!r} is privileged, so baselines do not use it")
            elif reason := self._read(name, spec):
                self.notes.append(f"input {name!r}: {reason}")
            else:
                self.inputs.append(name)

    def matrix(self, name: str, fold: int) -> np.ndarray:
        """The matrix of an input for all rows of the table, fitted on the training and validation rows of `fold`."""
        if (name, fold) not in self._matrices:
            parts = self.folds.splits[fold]
            fit_rows = np.sort(np.concatenate([parts["train"].rows, parts["validation"].rows]))
            self._matrices[name, fold] = self._matrix(name, fit_rows)
        return self._matrices[name, fold]

    def _matrix(self, name: str, fit_rows: np.ndarray) -> np.ndarray:
        if name in self._fold_free:
            features = self._fold_free[name]
            if features.is_pretrained:
                return _with_flag(features.values, features.present)
            return _standardize(features.values, features.present, fit_rows)
        if name in self._raw_texts:
            return _tfidf(self._raw_texts[name], fit_rows)
        modality = self._modality(name)
        table, limits = self.folds.table, self.folds.recipe.data.limits
        modality.fit(table.blocks(fit_rows, modality.columns, errors=CellErrors(), limits=limits))
        values, present = self._per_row(name, modality, _encode_cells)
        return (
            _standardize(values, present, fit_rows)
            if modality.options.name in ("number", "datetime")
            else _with_flag(values, present)
        )

    def _read(self, name: str, spec: InputSpec) -> str:
        """Compute the features that do not depend on the fold; the reason if the input has no features."""
        kind = spec.modality.name if spec.modality else ""
        encoder = find("encoder", spec.encoder.name) if spec.encoder else Encoder
        if issubclass(encoder, PretrainedEncoder):
            with self.progress.task(f"features of {name}", None):
                found = self._pretrained(name, spec)
            if found is None:
                return OTHER_LAYERS
            self._fold_free[name] = found
            if kind == "text":
                self._raw_texts[WORDS_PREFIX + name] = [text.lower() for text in self._cells(spec)]
                self.words.append(WORDS_PREFIX + name)
        elif kind in STATISTICS:
            with self.progress.task(f"features of {name}", None):
                modality = self._modality(name)
                self._fit_on_all(modality)
                shape = modality.shape()
                if is_features(self._stored(name, modality)):
                    return OTHER_LAYERS
                self._fold_free[name] = _FeatureMatrix(
                    *self._per_row(
                        name,
                        modality,
                        lambda prepared, _: summary_statistics(
                            prepared.items, np.arange(len(prepared.items)), kind, shape
                        ),
                    )
                )
        elif kind == "text":
            lowercase, texts = getattr(spec.modality, "lowercase", False), self._cells(spec)
            self._raw_texts[name] = [text.lower() for text in texts] if lowercase else texts
        elif kind not in ("number", "category", "datetime"):
            return f"there are no frozen features for the modality {kind!r}"
        return ""

    def _cells(self, spec: InputSpec) -> list[str]:
        """The text of each row, "" if missing."""
        cells = self.folds.table.values(spec.columns[0], np.arange(len(self.folds.table)))
        return [parse_text(cell) or "" for cell in (cells if isinstance(cells, list) else cells.to_pylist())]

    def _pretrained(self, name: str, spec: InputSpec) -> _FeatureMatrix | None:
        """The pooled output of the frozen pretrained encoder for each item, also if the recipe fine-tunes it. None if
        there is a store of prepared rows with the output of other layers."""
        assert spec.encoder is not None
        modality = self._modality(name)
        self._fit_on_all(modality)
        known = type(spec.encoder).model_fields
        overrides = {"max_tokens": 1, "fine_tuning": "freeze"}
        options = spec.encoder.model_copy(update={key: value for key, value in overrides.items() if key in known})
        recipe = self.folds.recipe
        path = f"inputs.{name}.encoder"
        with isolated_random_state():
            encoder = build_encoder(options, path, modality.shape(), recipe.hidden_size)
        try:
            encoder.load_pretrained()
        except RecipeError as error:
            raise error.with_prefix(path) from None

        stored = self._stored(name, modality)
        items = None if stored is None else stored.items
        if isinstance(items, FeatureItems) and items.frozen_layers != feature_hash(encoder, items.dtype):
            return None
        settings = FeatureSettings(recipe.training.feature_cache, recipe.data.limits)
        source = FeatureSource(modality, encoder, settings, media_cache_folder())
        embedding = EmbeddingFeatures(EmbeddingFeatures.Options(), source=source)
        values, present = self._per_row(name, modality, lambda prepared, _: embedding.transform(prepared).values)
        return _FeatureMatrix(values, present, is_pretrained=True)

    def _modality(self, name: str) -> Modality:
        spec = self.folds.recipe.inputs[name]
        modality: Modality = build("modality", spec.modality, f"inputs.{name}", columns=spec.columns)
        return modality

    def _fit_on_all(self, modality: Modality) -> None:
        """Fit a modality whose items do not depend on the fitted state (the image size is an option)."""
        rows = np.arange(len(self.folds.table))
        modality.fit(self._blocks(modality, rows))

    def _blocks(self, modality: Modality, rows: np.ndarray, cell_errors: CellErrors | None = None) -> Any:
        table, limits = self.folds.table, self.folds.recipe.data.limits
        size = self._block_rows(modality)
        return table.blocks(
            rows, modality.columns, size, errors=cell_errors or CellErrors(), limits=limits, cache=media_cache_folder()
        )

    def _block_rows(self, modality: Modality) -> int:
        return int(np.clip(256 * 2**20 / max(modality.row_bytes(), 1.0), 16, 4096))

    def _stored(self, name: str, modality: Modality) -> PreparedInput | None:
        """The rows of an input in the store of prepared rows, if the fitted modality prepares the same."""
        stored = self.folds.stored
        return None if stored is None else stored.input(name, modality, self.folds.recipe.data.limits)

    def _prepared(self, name: str, modality: Modality) -> Iterator[PreparedInput]:
        """All rows of an input in blocks, from the store of prepared rows or from the table."""
        stored = self._stored(name, modality)
        if stored is None or self.folds.stored is None:
            yield from map(modality.prepare, self._blocks(modality, np.arange(len(self.folds.table)), self.cell_errors))
            return
        self.folds.stored.add_errors(set(modality.columns), self.cell_errors)
        for start in range(0, len(stored.index), self._block_rows(modality)):
            rows = stored.index[start : start + self._block_rows(modality)]
            items, places = np.unique(rows[rows >= 0], return_inverse=True)
            index = np.full(len(rows), -1)
            index[rows >= 0] = places
            yield replace(selected_items(stored, items), index=index)

    def _per_row(self, name: str, modality: Modality, extract: Any) -> tuple[np.ndarray, np.ndarray]:
        """The features `extract(prepared, modality)` of each row, and whether the row has the input."""
        parts, present_rows = [], []
        for prepared in self._prepared(name, modality):
            present = prepared.index >= 0
            features = extract(prepared, modality)
            values = np.zeros((len(prepared.index), features.shape[1]), np.float32)
            if present.any():
                values[present] = features[prepared.index[present]]
            parts.append(values)
            present_rows.append(present)
        width = max(part.shape[1] for part in parts)  # a block without any present row has no columns
        parts = [part if part.shape[1] else np.zeros((len(part), width), np.float32) for part in parts]
        return np.concatenate(parts), np.concatenate(present_rows)


def _encode_cells(prepared: PreparedInput, modality: Modality) -> np.ndarray:
    """Numbers and features of dates with an indicator of missing values; categories one-hot."""
    arrays = prepared.items.take(np.arange(len(prepared.items)))
    if "ids" not in arrays:
        return np.concatenate([arrays["values"], arrays["known"]], axis=1).astype(np.float32)
    columns = [
        ids[:, None] == np.arange(1, size)  # index 0 is a missing label
        for ids, size in zip(arrays["ids"].T, modality.shape()["sizes"], strict=True)
        if size > FIRST_LABEL
    ]
    return np.concatenate([np.zeros((len(arrays["ids"]), 0)), *columns], axis=1).astype(np.float32)


def _with_flag(values: np.ndarray, present: np.ndarray) -> np.ndarray:
    return np.concatenate([np.where(present[:, None], values, 0), present[:, None]], axis=1).astype(np.float32)


def _standardize(values: np.ndarray, present: np.ndarray, fit_rows: np.ndarray) -> np.ndarray:
    """Standardize columns over the fitted rows with the input; constant columns become 0."""
    fitted = values[fit_rows[present[fit_rows]]].astype(np.float64)
    mean = fitted.mean(0) if len(fitted) else np.zeros(values.shape[1])
    std = fitted.std(0) if len(fitted) else np.zeros(values.shape[1])
    constant = std <= 1e-6 * np.maximum(np.abs(mean), 1e-12)
    scaled = (values - mean) / np.where(constant, 1.0, std)
    return _with_flag(np.where(constant, 0.0, scaled).clip(-10, 10), present)


def _tfidf(texts: list[str], fit_rows: np.ndarray) -> np.ndarray:
    from sklearn.feature_extraction.text import TfidfVectorizer

    present = np.array([bool(text) for text in texts])
    max_features = int(np.clip(MAX_VALUES / max(1, len(texts)), *COLUMNS))
    words = TfidfVectorizer(
        ngram_range=(1, 2), sublinear_tf=True, max_features=max_features, token_pattern=r"\w+", dtype=np.float32
    )
    try:
        words.fit([texts[row] for row in fit_rows if texts[row]])
    except ValueError:  # there is no text with a word
        return _with_flag(np.zeros((len(texts), 0), np.float32), present)
    return _with_flag(words.transform(texts).toarray(), present)
