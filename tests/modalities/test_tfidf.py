"""TF-IDF weights: equal to scikit-learn's on the kept columns."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_matrix, random_array
from sklearn.feature_extraction.text import TfidfTransformer

from polymodal.core.errors import ArtifactError
from polymodal.modalities.tfidf import Tfidf


def counts(texts: int, seed: int) -> csr_matrix:
    draw = np.random.default_rng(seed)
    found = random_array((texts, 64), density=0.1, rng=draw, data_sampler=lambda size: draw.integers(1, 9, size))
    return csr_matrix(found.astype(np.uint16))


@pytest.mark.parametrize("sublinear_tf", [True, False])
@pytest.mark.parametrize("min_df", [1, 4])
def test_equals_scikit_learn(sublinear_tf: bool, min_df: int) -> None:
    train, test = counts(30, 1), counts(10, 2)
    fitted = Tfidf(min_df=min_df, sublinear_tf=sublinear_tf).fit(train)
    frequency = np.asarray((train > 0).sum(0))[0]
    kept = np.flatnonzero(frequency >= min_df)
    assert fitted.kept.tolist() == kept.tolist()
    reference = TfidfTransformer(sublinear_tf=sublinear_tf).fit(train[:, kept].astype(float))
    for matrix in (train, test):
        expected = reference.transform(matrix[:, kept].astype(float)).toarray()
        found = fitted.transform(matrix)
        assert found.dtype == np.float32
        assert np.allclose(found.toarray(), expected, atol=1e-6)
    restored = Tfidf.from_state(fitted.to_state())
    assert np.array_equal(restored.transform(test).toarray(), fitted.transform(test).toarray())


def test_a_text_does_not_depend_on_the_others_and_an_unknown_one_is_zero() -> None:
    fitted = Tfidf(min_df=2).fit(counts(30, 1))
    matrix = counts(8, 2)
    for row in range(8):
        assert np.array_equal(fitted.transform(matrix[row]).toarray()[0], fitted.transform(matrix).toarray()[row])
    empty = csr_matrix((3, 64), dtype=np.uint16)
    assert fitted.transform(empty).nnz == 0
    assert Tfidf(min_df=2).fit(empty).transform(matrix).shape == (8, 0)


def test_the_most_frequent_buckets_are_kept() -> None:
    train = counts(30, 1)
    frequency = np.asarray((train > 0).sum(0))[0]
    kept = Tfidf(min_df=2, max_features=10).fit(train).kept
    dropped = np.setdiff1d(np.arange(64), kept)
    assert len(kept) == 10
    assert (np.diff(kept) > 0).all()
    assert frequency[kept].min() >= frequency[dropped].max()
    assert Tfidf(min_df=2, max_features=64).fit(train).kept.tolist() == Tfidf(min_df=2).fit(train).kept.tolist()


def test_other_arrays_are_refused() -> None:
    state = Tfidf(min_df=1).fit(counts(5, 1)).to_state()
    for wrong in (
        {key: value for key, value in state.items() if key != "idf"},
        {**state, "settings": np.zeros(1, np.int64)},
        {**state, "kept": state["kept"] + 100},
        {**state, "idf": state["idf"][:-1]},
    ):
        with pytest.raises(ArtifactError, match="TF-IDF"):
            Tfidf.from_state(wrong)
