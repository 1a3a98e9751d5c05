"""Retrieval scores of a part: both directions of every pair, distinct items, missing inputs, intervals by group."""

from __future__ import annotations

import json

import numpy as np
import pytest

from polymodal.evaluation.retrieval import score_retrieval
from polymodal.recipe.evaluation import EvaluationOptions

OPTIONS = EvaluationOptions(bootstrap_samples=200)


def unit(array: np.ndarray) -> np.ndarray:
    return (array / np.linalg.norm(array, axis=1, keepdims=True)).astype(np.float32)


def test_both_directions_of_every_pair() -> None:
    vectors = unit(np.random.default_rng(0).normal(size=(30, 8)))
    embeddings, items = dict.fromkeys("abc", vectors), dict.fromkeys("abc", np.arange(30))
    found = score_retrieval(embeddings, items, [("a", "b"), ("a", "c")], OPTIONS, seed=0)
    assert list(found) == ["a -> b", "b -> a", "a -> c", "c -> a"]
    first = found["a -> b"]
    assert list(first) == ["recall@1", "recall@5", "recall@10", "median_rank", "map"]
    assert first["recall@1"] == {
        "value": 1.0,
        "low": pytest.approx(0.025 ** (1 / 30)),
        "high": 1.0,
        "baseline": pytest.approx(1 / 30),
        "greater_is_better": True,
        "rows": 30,
        "unknown_class_rows": 0,
        "training_rows": 0,
        "left_out": {},
    }
    assert not first["median_rank"]["greater_is_better"]
    assert first["median_rank"]["baseline"] == 15
    json.dumps(found, allow_nan=False)


def test_rows_that_share_an_item_are_one_candidate() -> None:
    """Ten rows show two captions: without distinct candidates the other rows of a caption would stand before it."""
    captions = np.repeat([4, 9], 5)
    texts = unit(np.eye(2, 6))[np.repeat([0, 1], 5)]
    images = unit(texts + 0.1 * np.random.default_rng(1).normal(size=(10, 6)))
    items = {"image": np.arange(10), "caption": captions}
    found = score_retrieval({"image": images, "caption": texts}, items, [("image", "caption")], OPTIONS, seed=0)
    assert found["image -> caption"]["recall@1"]["baseline"] == pytest.approx(1 / 2)
    assert found["caption -> image"]["recall@1"]["baseline"] == pytest.approx(5 / 10)
    assert found["image -> caption"]["recall@1"]["value"] == 1


def test_rows_that_lack_an_input() -> None:
    vectors = unit(np.random.default_rng(2).normal(size=(12, 6)))
    heard, items = vectors.copy(), np.arange(12)
    heard[8:] = np.nan
    sounds = np.where(np.arange(12) < 8, items, -1)
    found = score_retrieval({"a": vectors, "b": heard}, {"a": items, "b": sounds}, [("a", "b")], OPTIONS, seed=0)
    assert found["a -> b"]["recall@1"]["baseline"] == pytest.approx(1 / 8)
    assert found["b -> a"]["recall@1"]["baseline"] == pytest.approx(1 / 12)
    assert found["b -> a"]["recall@1"]["value"] == 1


def test_nothing_to_score() -> None:
    vectors = unit(np.random.default_rng(2).normal(size=(3, 6)))
    missing = np.full_like(vectors, np.nan)
    found = score_retrieval(
        {"a": vectors, "b": missing}, {"a": np.arange(3), "b": np.full(3, -1)}, [("a", "b")], OPTIONS, seed=0
    )
    assert found["a -> b"]["recall@1"]["value"] is None
    assert found["b -> a"]["map"]["baseline"] is None


def test_groups_widen_the_interval_of_queries_that_go_together() -> None:
    draw = np.random.default_rng(3)
    queries, group = unit(draw.normal(size=(200, 16))), np.repeat(np.arange(10), 20)
    partners = np.where((group % 2 == 0)[:, None], queries, -queries)
    embeddings, items = {"a": queries, "b": partners}, {"a": np.arange(200), "b": np.arange(200)}

    def width(groups: np.ndarray | None) -> float:
        score = score_retrieval(embeddings, items, [("a", "b")], OPTIONS, seed=0, groups=groups)["a -> b"]["recall@1"]
        return float(score["high"] - score["low"])

    assert width(group) > 2 * width(None)
