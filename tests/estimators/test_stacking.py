"""Trees that read texts and embeddings as out-of-fold predictions of linear models."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from laws.estimators import estimator, folds_of
from polymodal.estimators.base import EstimatorTarget
from polymodal.estimators.stacked_columns import StackedColumns
from polymodal.features.feature_table import FeatureBlock, FeatureTable

ROWS, WIDTH = 800, 200


def two_inputs(seed: int, rows: int = ROWS) -> FeatureTable:
    """An embedding of 200 columns, and a number."""
    draw = np.random.default_rng(seed)
    wide = FeatureBlock("embedding", draw.normal(size=(rows, WIDTH)).astype(np.float32))
    number = FeatureBlock("number", draw.normal(size=(rows, 1)).astype(np.float32))
    everywhere = np.ones(rows, bool)
    return FeatureTable({"about": (wide,), "size": (number,)}, {"about": everywhere, "size": everywhere})


def thresholds(table: FeatureTable) -> EstimatorTarget:
    """The positive part of a sum of all columns of the embedding, and more where the number is far from 0."""
    wide, number = table.blocks["about"][0].values, table.blocks["size"][0].values
    score = 2.5 * np.maximum(wide.sum(axis=1) / np.sqrt(WIDTH), 0) + 2.0 * (np.abs(number[:, 0]) > 1)
    return EstimatorTarget("real", 1, ((score - score.mean()) / score.std())[:, None], np.ones(len(score)))


def test_many_weak_columns_beside_a_threshold_are_learned_by_neither_part_alone() -> None:
    features, new = two_inputs(0), two_inputs(1)
    target, truth = thresholds(features), thresholds(new).values[:, 0]

    def error(name: str) -> float:
        model = estimator(name)
        model.cross_fit(features, target, folds_of(ROWS))
        return float(np.mean(np.square(model.predict(new)[:, 0] - truth)))

    stacked = error("stacking")
    assert stacked < 0.7 * error("linear")
    assert stacked < 0.7 * error("gradient_boosting")


def test_columns_of_training_rows_tell_nothing_of_noise() -> None:
    features = two_inputs(0)
    noise = np.random.default_rng(5).normal(size=(ROWS, 1))
    target = EstimatorTarget("real", 1, noise, np.ones(ROWS))
    columns = StackedColumns().fit(features, target)[:, 0]
    assert abs(np.corrcoef(columns, noise[:, 0])[0, 1]) < 0.2 or np.ptp(columns) < 1e-3


def test_rows_of_a_group_do_not_predict_each_other() -> None:
    """The embedding names the group, and the target is drawn by group: other rows of the group would tell it."""
    draw = np.random.default_rng(0)
    groups = np.repeat(np.arange(80), 10)
    names, values = draw.normal(size=(80, WIDTH)), draw.normal(size=(80, 1))
    table = two_inputs(0)
    wide = FeatureBlock("embedding", (names[groups] + 0.01 * draw.normal(size=(ROWS, WIDTH))).astype(np.float32))
    table = replace(table, blocks={**table.blocks, "about": (wide,)})
    target = EstimatorTarget("real", 1, values[groups], np.ones(ROWS))

    def correlation(one: EstimatorTarget) -> float:
        found = StackedColumns().fit(table, one)[:, 0]
        return float(np.corrcoef(found, one.values[:, 0])[0, 1]) if np.ptp(found) > 1e-3 else 0.0

    assert correlation(target) > 0.9
    assert correlation(replace(target, groups=groups)) < 0.5


def test_a_missing_input_is_missing_for_the_trees() -> None:
    table = two_inputs(0)
    target = thresholds(table)
    columns = StackedColumns()
    columns.fit(table, target)
    hidden = columns.transform(table.hide(["about"]))
    assert np.isnan(hidden[:, 0]).all()
    np.testing.assert_array_equal(hidden[:, 1], columns.transform(table)[:, 1])


def test_terms_name_the_input_of_each_column() -> None:
    table = two_inputs(0)
    model = estimator("stacking")
    model.cross_fit(table, thresholds(table), folds_of(ROWS))
    terms = model.terms(table)
    assert [tuple(key) for key in terms.keys] == [("about", 0, -1), ("size", 0, 0)]
    np.testing.assert_allclose(terms.start + terms.values.sum(axis=1), model.predict(table), atol=1e-4)
