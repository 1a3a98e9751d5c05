"""The `tfidf` featurizer: weighted counts of words and of pieces of words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from polymodal.core.errors import ArtifactError, RecipeError
from polymodal.core.registry import register
from polymodal.data.store.items import Items, JoinedItems, PreparedInput, SelectedItems
from polymodal.features.base import FeatureSource, Featurizer, FeaturizerOptions, training_items
from polymodal.features.feature_table import FeatureBlock
from polymodal.modalities.text import Text
from polymodal.modalities.text_ngrams import NgramOptions, join_ngrams, ngram_matrix
from polymodal.modalities.tfidf import Tfidf

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

#: With more training texts, n-grams of a single text are dropped by default.
MAX_RARE_TEXTS = 5_000


@register
class TfidfFeatures(Featurizer):
    """TF-IDF weights of the word and character n-grams of each whole text (Salton and Buckley, "Term-Weighting
    Approaches in Automatic Text Retrieval", 1988), sparse. The option `ngrams` of the modality defines the n-grams. The
    weights are fitted on the distinct texts of the training rows."""

    class Options(FeaturizerOptions):
        name: Literal["tfidf"] = "tfidf"
        min_df: int | None = Field(default=None, ge=1)
        """N-grams that fewer training texts have are dropped. Default: 1 with up to 5,000 training texts, otherwise
        2, since most n-grams of many texts occur once."""
        sublinear_tf: bool = True
        """An n-gram that occurs c times counts 1 + log c, not c."""

    modalities: ClassVar[tuple[str, ...]] = ("text",)
    default_for: ClassVar[tuple[str, ...]] = modalities
    options: Options

    def __init__(self, options: Options, *, source: FeatureSource) -> None:
        super().__init__(options, source=source)
        assert isinstance(source.modality, Text)
        self.text = source.modality
        if self.text.options.ngrams is None:
            raise RecipeError("", "the featurizer `tfidf` needs the option `ngrams` of the modality")
        self.ngrams = self.text.options.ngrams
        self.tfidf = Tfidf(sublinear_tf=options.sublinear_tf)

    @classmethod
    def required_options(cls, options: Any) -> dict[str, Any]:
        return {"ngrams": NgramOptions()}

    def fit(self, prepared: PreparedInput, rows: np.ndarray) -> None:
        texts = training_items(prepared, rows)
        least = self.options.min_df or (1 if len(texts) <= MAX_RARE_TEXTS else 2)
        self.tfidf = Tfidf(min_df=least, sublinear_tf=self.options.sublinear_tf).fit(
            self._counts(prepared.items, texts)
        )

    def transform(self, prepared: PreparedInput) -> FeatureBlock:
        items = prepared.items
        return FeatureBlock("sparse", self.tfidf.transform(self._counts(items, np.arange(len(items)))))

    def _counts(self, items: Items, ids: np.ndarray) -> csr_matrix:
        """The n-gram counts of some items. Corrupted texts are only tokens, so theirs are counted again."""
        if isinstance(items, SelectedItems):
            return self._counts(items.source, items.ids[ids])
        if not isinstance(items, JoinedItems):
            texts = self.text.decode(items.take(ids))
            items, ids = join_ngrams(items, texts, self.ngrams), np.arange(len(texts))
        return ngram_matrix(items, ids, self.ngrams.buckets)

    def save(self) -> dict[str, np.ndarray]:
        return self.tfidf.to_state()

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        kept, idf, settings = state["kept"], state["idf"], state["settings"]
        expected = [self.ngrams.buckets, self.options.sublinear_tf]
        if settings.dtype != np.int64 or settings.tolist() != expected:
            raise ValueError(f"'settings' must be {expected}")
        if kept.dtype != np.int32 or idf.dtype != np.float32 or kept.ndim != 1 or not np.isfinite(idf).all():
            raise ValueError("'kept' must be int32 numbers, and 'idf' finite float32 numbers")
        if (np.diff(kept) <= 0).any() or (kept < 0).any() or (kept >= self.ngrams.buckets).any():
            raise ValueError("'kept' must be buckets in ascending order")
        try:
            self.tfidf = Tfidf.from_state(dict(state))
        except ArtifactError as error:
            raise ValueError(str(error)) from None
