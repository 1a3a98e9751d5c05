"""Laws of featurizers, over the registry: features belong to the item, fitting reads training rows only, and states
come back to the bit."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression

from laws.featurizers import MEMBERS, with_features
from laws.samples import Columns, network_of, prepare, sample_table, table_of
from polymodal.core.registry import components, find
from polymodal.data.store.items import PreparedInput
from polymodal.data.table.cell_errors import CellErrors
from polymodal.datasets.moving_shapes import make_moving_shapes, make_spoken_digits
from polymodal.datasets.planted import make_planted_images, make_planted_table, make_planted_text
from polymodal.features.feature_set import FeatureSet
from polymodal.features.feature_table import FeatureBlock, FeatureTable
from polymodal.features.input_features import default_features, required_modality_options
from polymodal.preparation.preparation import ItemCorruption, Preparation, PreparedTable
from polymodal.recipe.recipe import InputSpec

FEATURIZERS = components("featurizer")
PAIRS = [(name, modality) for name, one in FEATURIZERS.items() for modality in one.modalities]
ROWS, TRAIN = 20, np.arange(12)


@cache
def prepared(featurizer: str, modality: str) -> tuple[Preparation, PreparedTable, Columns]:
    """Rows of the modality and of numbers; the last row of the training rows and the last row lack the modality."""
    columns, recipe = sample_table([modality, *({"number", "category"} - {modality})], ["classification"], ROWS)
    (key,) = (name for name in recipe["inputs"] if name == f"in_{modality}")
    for column in recipe["inputs"][key]["columns"]:
        columns[column] = [None if row in (TRAIN[-1], ROWS - 1) else cell for row, cell in enumerate(columns[column])]
    recipe["inputs"][key] = with_features(recipe["inputs"][key], modality, {"name": featurizer})
    return *prepare(columns, **recipe, **MEMBERS), columns


@cache
def encoders(featurizer: str, modality: str) -> dict[str, Any]:
    preparation, _, _ = prepared(featurizer, modality)
    network = network_of(preparation)
    return {f"in_{modality}": network.encoders()[f"in_{modality}"].eval()}


def new_set(featurizer: str, modality: str) -> FeatureSet:
    preparation, _, _ = prepared(featurizer, modality)
    return FeatureSet(preparation.recipe, preparation, encoders(featurizer, modality), None)


@cache
def fitted(featurizer: str, modality: str) -> FeatureSet:
    features = new_set(featurizer, modality)
    features.fit(prepared(featurizer, modality)[1], TRAIN)
    return features


@cache
def whole(featurizer: str, modality: str) -> FeatureTable:
    return fitted(featurizer, modality).transform(prepared(featurizer, modality)[1], np.arange(ROWS))


def dense(block: FeatureBlock) -> np.ndarray:
    return block.values.toarray() if isinstance(block.values, csr_matrix) else block.values


def assert_same(one: FeatureTable, other: FeatureTable, *, inputs: list[str] | None = None, near: bool = False) -> None:
    """Equal to the bit, or up to rounding."""
    for name in inputs or list(one.blocks):
        assert np.array_equal(one.present[name], other.present[name])
        for mine, theirs in zip(one.blocks[name], other.blocks[name], strict=True):
            assert (mine.kind, mine.sizes) == (theirs.kind, theirs.sizes)
            assert mine.values.dtype == theirs.values.dtype
            if near:
                np.testing.assert_allclose(dense(mine), dense(theirs), atol=2e-5)
            else:
                np.testing.assert_array_equal(dense(mine), dense(theirs))


def test_every_modality_has_features_with_and_without_a_checkpoint() -> None:
    checkpoints = {name.removeprefix("pretrained_") for name in components("encoder") if name.startswith("pretrained")}
    for modality in components("modality"):
        assert default_features(modality, False)
        assert ("embedding" in default_features(modality, True)) == (modality in checkpoints)


@pytest.mark.parametrize(("name", "modality"), PAIRS)
def test_features_belong_to_the_item(name: str, modality: str) -> None:
    preparation, table, columns = prepared(name, modality)
    features, near = fitted(name, modality), find("featurizer", name).needs_encoder
    order = np.array([7, 3, 15, 3, 0])
    expected = whole(name, modality).take(order)
    assert_same(features.transform(table, order), expected, near=near)
    assert_same(
        FeatureTable.concatenate([features.transform(table, order[at : at + 1]) for at in range(5)]),
        expected,
        near=near,
    )
    other = table_of({column: [cells[row] for row in order] for column, cells in columns.items()})
    again = preparation.prepare(other, CellErrors(), folder=None, cache=None)
    assert_same(features.transform(again, np.arange(5)), expected, near=near)


@pytest.mark.parametrize(("name", "modality"), PAIRS)
def test_fitting_and_transforming_at_once_gives_the_same(name: str, modality: str) -> None:
    _, table, _ = prepared(name, modality)
    features = new_set(name, modality)
    at_once = features.fit_transform(table, TRAIN, np.arange(ROWS))
    assert_same(at_once, whole(name, modality))
    expected = fitted(name, modality).state()
    assert {key: array.tobytes() for key, array in features.state().items()} == {
        key: array.tobytes() for key, array in expected.items()
    }


@pytest.mark.parametrize(("name", "modality"), PAIRS)
def test_missing_and_hidden_rows_are_marked(name: str, modality: str) -> None:
    _, table, _ = prepared(name, modality)
    key = f"in_{modality}"
    block = whole(name, modality).blocks[key][0]
    present = table.inputs[key].index >= 0
    assert present.sum() == ROWS - 2
    assert np.array_equal(whole(name, modality).present[key], present)
    assert len(block) == ROWS
    assert block.kind != "category" or len(block.sizes) == block.values.shape[1]
    assert_marked(block, ~present)
    assert dense(block)[present].shape[1] > 0
    hidden = whole(name, modality).hide({key})
    assert not hidden.present[key].any()
    assert hidden.blocks[key][0].values.shape == block.values.shape
    assert_marked(hidden.blocks[key][0], np.ones(ROWS, bool))
    assert_same(hidden, whole(name, modality), inputs=[one for one in table.inputs if one != key])
    gone = replace(table.inputs[key], index=np.full(ROWS, -1, np.int64))
    without = replace(table, inputs={**table.inputs, key: gone})
    assert_same(hidden, fitted(name, modality).transform(without, np.arange(ROWS)))


def assert_marked(block: FeatureBlock, rows: np.ndarray) -> None:
    """These rows, and no others, have no feature at all."""
    values = dense(block)
    nothing = {"category": values == -1, "sparse": values == 0}.get(block.kind, np.isnan(values))
    assert nothing[rows].all()
    assert not nothing[~rows].all(axis=1).any() or block.kind == "sparse"
    if block.kind == "category":
        assert (values < np.array(block.sizes)).all()


@pytest.mark.parametrize(("name", "modality"), PAIRS)
def test_fitting_reads_training_rows_only(name: str, modality: str) -> None:
    _, table, _ = prepared(name, modality)
    changed = {}
    for key, source in table.inputs.items():
        index = source.index.copy()
        index[len(TRAIN) :] = source.index[len(TRAIN) :][::-1]
        index[-1] = source.index[0]
        changed[key] = PreparedInput(index, source.items, source.content_keys)
    other = new_set(name, modality)
    other.fit(replace(table, inputs=changed), TRAIN)
    expected = fitted(name, modality).state()
    assert other.state().keys() == expected.keys()
    for path, array in other.state().items():
        np.testing.assert_array_equal(array, expected[path])


@pytest.mark.parametrize(("name", "modality"), PAIRS)
def test_a_state_comes_back_to_the_bit_or_is_refused(name: str, modality: str) -> None:
    _, table, _ = prepared(name, modality)
    state = fitted(name, modality).state()
    assert all(path.rsplit("/", 2)[0] in table.inputs for path in state)
    loaded = new_set(name, modality)
    loaded.load({path: array.copy() for path, array in state.items()})
    near = find("featurizer", name).needs_encoder
    assert_same(loaded.transform(table, np.arange(ROWS)), whole(name, modality), near=near)
    with pytest.raises(ValueError, match="no array of these features"):
        loaded.load({**state, f"in_{modality}/{name}/other": np.zeros(3)})
    for path, array in state.items():
        fresh = new_set(name, modality)
        with pytest.raises((KeyError, ValueError)):
            fresh.load({other: values for other, values in state.items() if other != path})
        with pytest.raises((KeyError, ValueError)):
            fresh.load({**state, path: np.concatenate([array, array])})
        with pytest.raises((KeyError, ValueError)):
            fresh.load({**state, path: array.astype(np.complex64)})


@pytest.mark.parametrize(("name", "modality"), PAIRS)
def test_corruption_changes_only_its_input(name: str, modality: str) -> None:
    _, table, _ = prepared(name, modality)
    key = f"in_{modality}"
    kind = find("modality", modality).corruptions[0]

    def corrupted(strength: float) -> FeatureTable:
        change = ItemCorruption(key, kind, strength, np.random.default_rng(1))
        return fitted(name, modality).transform(table, np.arange(ROWS), corruption=change)

    found = corrupted(1.0)
    assert_same(found, whole(name, modality), inputs=[one for one in table.inputs if one != key])
    assert_same(found, corrupted(1.0))
    mine, theirs = found.blocks[key][0], whole(name, modality).blocks[key][0]
    assert mine.values.shape == theirs.values.shape
    assert not np.array_equal(dense(mine), dense(theirs), equal_nan=True)
    rows = np.arange(ROWS)
    assert_same(fitted(name, modality).transform(table, rows), whole(name, modality), inputs=[key])


def chirps(rows: int, seed: int) -> Columns:
    """Noisy waves that rise or fall in frequency."""
    draw = np.random.default_rng(seed)
    rising = draw.permutation(np.arange(rows) % 2)
    time = np.linspace(0, 1, 60)
    waves = [
        np.sin(2 * np.pi * (3 + 4 * (t if up else 1 - t)) * t + draw.uniform(0, 6)) for up in rising for t in [time]
    ]
    return {
        "wave": [(wave + draw.normal(0, 0.3, 60)).tolist() for wave in waves],
        "target": ["up" if up else "down" for up in rising],
    }


def table_grades(rows: int, seed: int) -> Columns:
    columns = make_planted_table(rows, seed)
    return {"length": columns["length"], "weight": columns["weight"], "target": columns["grade"]}


def shops(rows: int, seed: int) -> Columns:
    """A category that gives the target in nine of ten rows."""
    draw = np.random.default_rng(seed)
    target = draw.permutation(np.arange(rows) % 2)
    seen = np.where(draw.random(rows) < 0.9, target, 1 - target)
    return {"shop": [["mill", "port"][one] for one in seen], "target": [["low", "high"][one] for one in target]}


def visits(rows: int, seed: int) -> Columns:
    """Days of a year; those of the weekend are busy."""
    days = np.datetime64("2024-01-01") + np.random.default_rng(seed).permutation(366)[:rows]
    weekend = (days.astype(int) + 3) % 7 >= 5
    return {"day": [str(day) for day in days], "target": ["busy" if one else "calm" for one in weekend]}


def renamed(columns: Columns, cells: str, target: str) -> Columns:
    return {cells: columns[cells], "target": columns[target]}


#: One planted set for each modality: a new modality needs one line here.
PLANTED: dict[str, Any] = {
    "number": table_grades,
    "category": shops,
    "datetime": visits,
    "image": lambda rows, seed: renamed(make_planted_images(rows, seed), "image", "shape"),
    "audio": lambda rows, seed: renamed(make_spoken_digits(rows, seed), "sound", "digit"),
    "video": lambda rows, seed: renamed(make_moving_shapes(rows, seed), "clip", "motion"),
    "time_series": chirps,
    "text": lambda rows, seed: renamed(make_planted_text(rows, seed), "text", "topic"),
}


@pytest.mark.parametrize("modality", components("modality"))
def test_a_linear_model_on_the_features_beats_the_constant(modality: str) -> None:
    rows = 120
    columns = PLANTED[modality](rows, 0)
    names = [name for name in columns if name != "target"]
    spec: dict[str, Any] = {"columns": names, "modality": {"name": modality}}
    spec["modality"] |= required_modality_options("in", InputSpec(modality=modality))
    preparation, table = prepare(columns, inputs={"in": spec}, outputs={"target": "classification"})
    features = FeatureSet(preparation.recipe, preparation, {}, None)
    train, test = np.arange(80), np.arange(80, rows)
    features.fit(table, train)
    found = features.transform(table, np.arange(rows))
    x = np.concatenate([one_hot(block) for block in found.blocks["in"]], axis=1)
    y = np.array(columns["target"])
    score = LogisticRegression(C=0.3, max_iter=300).fit(x[train], y[train]).score(x[test], y[test])
    constant = max(np.mean(y[test] == label) for label in set(columns["target"]))
    assert score > constant + 0.2, f"{score:.2f} against {constant:.2f}"


def one_hot(block: FeatureBlock) -> np.ndarray:
    values = np.nan_to_num(dense(block))
    if block.kind != "category":
        return values
    columns = zip(values.T, block.sizes, strict=True)
    return np.concatenate([codes[:, None] == np.arange(size) for codes, size in columns], axis=1).astype(float)
