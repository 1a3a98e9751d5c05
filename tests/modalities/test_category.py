"""Categories: vocabulary of the training rows, unseen and missing labels, bad cells."""

import json

import numpy as np
import pyarrow as pa
import pytest

from polymodal.core.errors import DataError
from polymodal.data.table.block import RowBlock
from polymodal.data.table.cell_errors import CellErrors
from polymodal.data.table.sample import ColumnSample
from polymodal.modalities.category import MISSING, RARE, Category
from polymodal.modalities.number import Number
from polymodal.modalities.text import Text
from polymodal.recipe.data import LimitOptions


def block(strict=False, first=0, **columns):
    rows = np.arange(first, first + len(next(iter(columns.values()))))
    return RowBlock(columns, rows, None, "table", CellErrors(strict), LimitOptions())


def fitted(training, **options):
    category = Category(Category.Options(**options), columns=list(training.columns))
    category.fit([training])
    return category


def ids(category, **columns):
    return category.prepare(block(**columns)).items.arrays["ids"]


def sample(values, name="x"):
    return ColumnSample(name, values, None, len(values), len(values), 0, None)


def test_ids_come_from_the_training_rows_in_alphabetical_order():
    category = fitted(block(a=["red", "blue", "red", "blue", "odd"]))
    assert ids(category, a=["blue", "red", "odd", "never seen", None, " "])[:, 0].tolist() == [
        2,
        3,
        RARE,
        RARE,
        0,
        0,
    ]
    assert category.shape() == {"sizes": [4]}


def test_min_count_decides_what_is_rare():
    training = block(a=["red", "blue", "red"])
    assert fitted(training, min_frequency=1).shape() == {"sizes": [4]}
    assert fitted(training, min_frequency=2).shape() == {"sizes": [3]}


def test_kinds_of_cells_that_mean_the_same_label_are_one():
    category = fitted(block(a=[3, 3, "yes", "yes", True, True, 2.5, 2.5]))
    assert len(set(ids(category, a=[3, 3.0, "3", " 3", np.int64(3), np.float32(3)])[:, 0].tolist())) == 1
    assert ids(category, a=[True])[0, 0] == ids(category, a=["True"])[0, 0] > RARE


def test_arrow_dictionaries_and_lists_agree():
    cells = ["a", "b", None, "a"]
    category = fitted(block(a=["a", "a", "b", "b"]))
    assert np.array_equal(ids(category, a=cells), ids(category, a=pa.array(cells).dictionary_encode()))


def test_a_row_is_missing_when_all_its_labels_are():
    category = fitted(block(a=["x", "x"], b=["y", "y"]))
    prepared = category.prepare(block(a=["x", None, None], b=[None, "new", float("nan")]))
    assert prepared.index.tolist() == [0, 1, -1]
    assert prepared.items.arrays["ids"].tolist() == [[2, MISSING], [MISSING, RARE], [MISSING, MISSING]]


@pytest.mark.parametrize("cell", [["x"], {"x": 1}, b"x", object()], ids=lambda cell: type(cell).__name__)
def test_a_bad_cell_is_quarantined_and_changes_no_other_row(cell):
    category = fitted(block(a=["x", "x", "y", "y"]))
    bad = block(first=4, a=["x", cell, "y"])
    found = category.prepare(bad)
    assert np.array_equal(found.items.arrays["ids"], ids(category, a=["x", None, "y"]))
    assert [(fault.row, fault.column) for fault in bad.errors.errors] == [(5, "a")]
    with pytest.raises(DataError):
        category.prepare(block(strict=True, a=[cell]))


def test_saved_and_loaded_prepares_the_same(tmp_path):
    category = fitted(block(a=["猫", "猫", "dog", "dog"]))
    other = Category(Category.Options(), columns=["a"])
    other.load(tmp_path, json.loads(json.dumps(category.save(tmp_path))))
    cells = ["dog", "猫", "?", None]
    assert np.array_equal(ids(category, a=cells), ids(other, a=cells))


def best(values, name="x"):
    guesses = {kind.Options.model_fields["name"].default: kind.match_column(sample(values, name)) for kind in KINDS}
    sure = {name: guess.confidence for name, guess in guesses.items() if guess is not None}
    return max(sure, key=sure.get) if sure else None


KINDS = (Category, Number, Text)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["red", "blue", "light green"] * 30, "category"),
        ([True, False] * 10, "category"),
        (["红", "蓝"] * 20, "category"),
        (["is it red?", "what shape is in the image?"] * 50, "text"),
        ([f"Person Number {i} of many" for i in range(50)], "text"),
        ([1, 2, 3, 3, 2] * 20, "number"),
        (["1", "2", "3"] * 20, "number"),
        ([0.5, 1.5, 2.5], "number"),
        (list(range(100)), None),
        ([f"id{i}" for i in range(100)], None),
    ],
)
def test_each_column_goes_to_the_modality_that_a_reader_would_choose(values, expected):
    assert best(values) == expected


def test_columns_of_many_labels_keep_the_frequent_ones():
    """5,000 labels in 20,000 rows, a third of them in one row only, and the most frequent of them with a limit."""
    counts = np.array([1] * 1700 + [4] * 1700 + [7] * 1600)
    labels = np.repeat([f"label {number:04}" for number in range(5000)], counts)
    np.random.default_rng(0).shuffle(labels)
    training = block(a=pa.chunked_array([pa.array(labels)]))
    category = fitted(training)
    assert category.shape() == {"sizes": [2 + 3300]}
    found = ids(category, a=["label 0000", "label 1700", "label 4999", "no label", None])[:, 0].tolist()
    assert found == [RARE, 2, 3301, RARE, MISSING]
    assert len(json.dumps(category.save(None))) < 100_000
    limited = fitted(training, max_labels=1000)
    assert limited.shape() == {"sizes": [1002]}
    assert ids(limited, a=["label 1700", "label 3400", "label 4400"])[:, 0].tolist() == [RARE, 2, RARE]


@pytest.mark.parametrize(
    "cells",
    [
        [True, False],
        ["True", "False"],
        ["yes", "no"],
        ["Y", "N"],
        ["t", "f"],
        np.array([True, False]),
    ],
)
def test_truth_values_are_categories_of_two_labels(cells, tmp_path):
    from polymodal.data.table.table import open_table

    table = open_table({"paid": list(cells) * 30}, cache=tmp_path)
    found = table.sample("paid")
    assert Category.match_column(found).confidence > 0.8
    assert all(other.match_column(found) is None for other in (Number,))
    category = fitted(block(paid=table.values("paid", np.arange(60))))
    assert category.shape() == {"sizes": [4]}
