"""Frozen features: one matrix per input, for the baselines and the audit."""

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
from polymodal.features.base import FeatureSource
from polymodal.features.embedding import EmbeddingFeatures
from polymodal.features.media_statistics import STATISTICS, summary_statistics
from polymodal.modalities.base import Modality
from polymodal.modalities.category import FIRST_LABEL
from polymodal.modalities.text import parse_text
from polymodal.nn.encoders.base import Encoder
from polymodal.nn.encoders.pretrained import PretrainedEncoder
from polymodal.nn.encoders.windowed import build_encoder
from polymodal.preparation.feature_cache import FeatureSettings
from polymodal.recipe.recipe import InputSpec
from polymodal.runtime.random_state import isolated_random_state
from polymodal.tuning.folds import Folds

#: Maximum number of values in the TF-IDF matrix of a text input, and the limits of its number of columns.
MAX_VALUES, COLUMNS = 50_000_000, (256, 4_096)

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
            elif self._read(name, spec):
                self.inputs.append(name)
            else:
                kind = spec.modality.name if spec.modality else "?"
                self.notes.append(f"input {name!r}: there are no frozen features for the modality {kind!r}")

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
        values, present = self._per_row(modality, _encode_cells)
        return (
            _standardize(values, present, fit_rows)
            if modality.options.name in ("number", "datetime")
            else _with_flag(values, present)
        )

    def _read(self, name: str, spec: InputSpec) -> bool:
        """Compute the features that do not depend on the fold; False if the input has no features."""
        kind = spec.modality.name if spec.modality else ""
        encoder = find("encoder", spec.encoder.name) if spec.encoder else Encoder
        if issubclass(encoder, PretrainedEncoder):
            with self.progress.task(f"features of {name}", None):
                self._fold_free[name] = self._pretrained(name, spec)
            if kind == "text":
                self._raw_texts[WORDS_PREFIX + name] = [text.lower() for text in self._cells(spec)]
                self.words.append(WORDS_PREFIX + name)
        elif kind in STATISTICS:
            with self.progress.task(f"features of {name}", None):
                modality = self._modality(name)
                self._fit_on_all(modality)
                shape = modality.shape()
                self._fold_free[name] = _FeatureMatrix(
                    *self._per_row(
                        modality,
                        lambda prepared, _: summary_statistics(
                            prepared.items, np.arange(len(prepared.items)), kind, shape
                        ),
                    )
                )
        elif kind == "text":
            lowercase, texts = getattr(spec.modality, "lowercase", False), self._cells(spec)
            self._raw_texts[name] = [text.lower() for text in texts] if lowercase else texts
        else:
            return kind in ("number", "category", "datetime")
        return True

    def _cells(self, spec: InputSpec) -> list[str]:
        """The text of each row, "" if missing."""
        cells = self.folds.table.values(spec.columns[0], np.arange(len(self.folds.table)))
        return [parse_text(cell) or "" for cell in (cells if isinstance(cells, list) else cells.to_pylist())]

    def _pretrained(self, name: str, spec: InputSpec) -> _FeatureMatrix:
        """The pooled output of the frozen pretrained encoder for each item, also if the recipe fine-tunes it."""
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

        settings = FeatureSettings(recipe.training.feature_cache, recipe.data.limits)
        source = FeatureSource(modality, encoder, settings, media_cache_folder())
        embedding = EmbeddingFeatures(EmbeddingFeatures.Options(), source=source)
        values, present = self._per_row(modality, lambda prepared, _: embedding.transform(prepared).values)
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
        size = int(np.clip(256 * 2**20 / max(modality.row_bytes(), 1.0), 16, 4096))
        return table.blocks(
            rows, modality.columns, size, errors=cell_errors or CellErrors(), limits=limits, cache=media_cache_folder()
        )

    def _per_row(self, modality: Modality, extract: Any) -> tuple[np.ndarray, np.ndarray]:
        """The features `extract(prepared, modality)` of each row, and whether the row has the input."""
        parts, present_rows = [], []
        for block in self._blocks(modality, np.arange(len(self.folds.table)), self.cell_errors):
            prepared = modality.prepare(block)
            present = prepared.index >= 0
            features = extract(prepared, modality)
            values = np.zeros((len(block), features.shape[1]), np.float32)
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
