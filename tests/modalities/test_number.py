"""Numbers: statistics of the training rows, missing cells, bad cells."""

import datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from polymodal.core.errors import DataError
from polymodal.data.table.block import RowBlock
from polymodal.data.table.cell_errors import CellErrors
from polymodal.data.table.sample import ColumnSample
from polymodal.modalities.number import Number
from polymodal.recipe.data import LimitOptions


def block(strict=False, first=0, **columns):
    rows = np.arange(first, first + len(next(iter(columns.values()))))
    return RowBlock(columns, rows, None, "table", CellErrors(strict), LimitOptions())


def fitted(training, **options):
    number = Number(Number.Options(**options), columns=list(training.columns))
    number.fit([training])
    return number


def sample(values, rows=None, name="x", kind=None):
    return ColumnSample(name, values, kind, rows or len(values), len(values), 0, None)


def test_columns_are_standardized_with_the_training_rows_only():
    number = fitted(block(a=[1.0, 2.0, 3.0, None]))
    values = number.prepare(block(a=[2.0, 100.0])).items.arrays["values"]
    assert values[0, 0] == 0
    assert values[1, 0] == 8.0
    again = number.prepare(block(a=[2.0, 5000.0])).items.arrays["values"]
    assert again[0, 0] == values[0, 0]


def test_fit_on_blocks_equals_fit_on_one():
    values = np.random.default_rng(0).normal(3, 2, 100)
    whole = fitted(block(a=pa.array(values)))
    parts = Number(Number.Options(), columns=["a"])
    parts.fit(iter([block(a=pa.array(values[:33])), block(a=pa.array(values[33:]))]))
    assert whole.statistics == parts.statistics
    prepared = whole.prepare(block(a=pa.array(values))).items.arrays["values"]
    assert abs(prepared.mean()) < 1e-5
    assert abs(prepared.std() - 1) < 1e-5


def test_missing_numbers_are_known_false_and_zero():
    number = fitted(block(a=[1.0, 2.0, 3.0], b=[1, 2, 4]))
    prepared = number.prepare(block(a=[1.0, None, float("nan")], b=[None, 2, None]))
    assert prepared.items.arrays["known"].tolist() == [[True, False], [False, True], [False, False]]
    assert (prepared.items.arrays["values"][~prepared.items.arrays["known"]] == 0).all()
    assert prepared.index.tolist() == [0, 1, -1]
    assert prepared.content_keys is None


def test_a_constant_column_is_zero_and_a_column_without_values_never_known():
    number = fitted(block(a=[5.0, 5.0, 5.0], b=pa.array([None, None, None], pa.float64()), c=[1.0, 2.0, 9.0]))
    prepared = number.prepare(block(a=[5.0, 7.0], b=[1.0, 2.0], c=[1.0, 2.0])).items.arrays
    assert prepared["values"][:, 0].tolist() == [0, 0]
    assert prepared["known"].tolist() == [[True, False, True]] * 2
    assert number.describe() == "3 numbers: a (constant), b (no value), c"


def test_skewed_columns_get_the_logarithm_and_say_so():
    rng = np.random.default_rng(0)
    training = block(price=rng.lognormal(0, 2, 500) * 1e-6, size=rng.normal(size=500))
    number = fitted(training)
    assert number.describe() == "2 numbers: price (logarithm), size"
    skew = (number.prepare(training).items.arrays["values"][:, 0] ** 3).mean()
    assert abs(skew) < 2
    assert fitted(training, transform="none").describe() == "2 numbers: price, size"
    assert fitted(training, transform="log").describe() == "2 numbers: price (logarithm), size (logarithm)"


def test_video_limits_outliers():
    training = block(a=np.arange(100.0).tolist())
    assert fitted(training, clip_std=1.5).prepare(block(a=[1e9, -1e9])).items.arrays["values"][:, 0].tolist() == [
        1.5,
        -1.5,
    ]


def test_strings_that_plainly_are_numbers_are_read():
    number = fitted(block(a=[1.0, 2.0, 3.0, 4.0]))
    written = number.prepare(block(a=[" 3.5 ", "2", "1e0", Decimal("4"), True, "", None]))
    plain = number.prepare(block(a=[3.5, 2.0, 1.0, 4.0, 1.0, None, None]))
    for name in ("values", "known"):
        assert np.array_equal(written.items.arrays[name], plain.items.arrays[name])


BAD = ["1,234", "5 kg", "1_000", float("inf"), "-inf", 1e300, 10**400, [1], datetime.date(2020, 1, 1), b"1"]


@pytest.mark.parametrize("cell", BAD, ids=str)
def test_a_bad_cell_is_quarantined_and_changes_no_other_row(cell):
    number = fitted(block(a=[1.0, 2.0, 3.0], b=[1.0, 5.0, 3.0]))
    bad, clean = (
        block(first=7, a=[1.0, cell, 3.0], b=[1.0, 2.0, 3.0]),
        block(a=[1.0, None, 3.0], b=[1.0, 2.0, 3.0]),
    )
    found, wanted = number.prepare(bad), number.prepare(clean)
    for name in ("values", "known"):
        assert np.array_equal(found.items.arrays[name], wanted.items.arrays[name])
    assert [(fault.row, fault.column) for fault in bad.errors.errors] == [(8, "a")]
    assert bad.errors.errors[0].reason
    with pytest.raises(DataError):
        number.prepare(block(strict=True, a=[cell], b=[1.0]))


def test_bad_cells_of_the_training_rows_do_not_reach_the_statistics():
    dirty = fitted(block(a=[1.0, float("inf"), 2.0, "x", 3.0]))
    assert dirty.statistics == fitted(block(a=[1.0, 2.0, 3.0])).statistics


def test_infinite_cells_of_an_arrow_column_are_bad_cells():
    given = block(a=pa.chunked_array([[1.0, float("inf")], [None]]))
    fitted(block(a=[1.0, 2.0])).prepare(given)
    assert [fault.row for fault in given.errors.errors] == [1]


def test_saved_and_loaded_prepares_the_same(tmp_path):
    import json

    training = block(a=np.random.default_rng(0).exponential(size=50).tolist(), b=list(range(50)))
    number = fitted(training)
    other = Number(Number.Options(), columns=["a", "b"])
    other.load(tmp_path, json.loads(json.dumps(number.save(tmp_path))))
    assert np.array_equal(
        number.prepare(training).items.arrays["values"], other.prepare(training).items.arrays["values"]
    )
    assert other.shape() == number.shape()
    assert other.shape()["columns"] == 2


def test_recognises_numbers_but_not_keys_dates_or_labels():
    rng = np.random.default_rng(0)
    assert Number.match_column(sample(rng.normal(size=50).tolist())).confidence >= 0.9
    assert Number.match_column(sample(rng.integers(0, 50, 100).tolist())).confidence >= 0.6
    assert Number.match_column(sample(["1.5", "2", "x"] * 20)) is None
    assert Number.match_column(sample(["1.5", "2"] * 20)).confidence >= 0.7
    assert Number.match_column(sample(list(range(100)))) is None
    assert Number.match_column(sample(rng.permutation(100).tolist())) is None
    codes = rng.choice(10**9, 100, replace=False).tolist()
    assert Number.match_column(sample(codes, name="customer_id")) is None
    assert Number.match_column(sample(codes, name="price")) is not None
    assert Number.match_column(sample([True, False])) is None
    assert Number.match_column(sample([datetime.date(2020, 1, 1)])) is None


def heavy_tails(rows=400):
    """Student's t with 1.2 degrees of freedom, symmetric: a few numbers are thousands of deviations away."""
    half = np.random.default_rng(3).standard_t(1.2, rows // 2)
    return np.concatenate([half, -half])


def test_columns_with_heavy_tails_get_the_robust_scale():
    values = heavy_tails()
    number = fitted(block(a=values, b=np.random.default_rng(1).normal(size=400)))
    assert [one["robust"] for one in number.statistics] == [True, False]
    assert "a (robust scale)" in number.describe()
    prepared = number.prepare(block(a=values, b=np.zeros(400))).items.arrays["values"][:, 0]
    order = np.argsort(values)
    assert (np.diff(prepared[order]) >= 0).all(), "smooth clipping keeps the order"
    assert np.abs(prepared).max() <= 3
    low, high = np.quantile(prepared, [0.1, 0.9])
    assert high - low > 2, "the middle of the column stays wide"
    standard = fitted(block(a=values), transform="none").prepare(block(a=values)).items.arrays["values"][:, 0]
    low, high = np.quantile(standard, [0.1, 0.9])
    assert high - low < 1.2, "with mean and standard deviation, a few numbers press all others together"


def test_the_robust_scale_is_that_of_its_equation_and_needs_no_spread_in_the_middle():
    number = fitted(block(a=[0.0, 1.0, 2.0, 3.0, 4.0], b=[0.0, 0.0, 0.0, 0.0, 9.0]), transform="robust")
    values = number.prepare(block(a=[3.0, -1e30], b=[9.0, None])).items.arrays["values"]
    z = (3 - 2) / (3 - 1)
    assert values[0, 0] == pytest.approx(z / np.sqrt(1 + (z / 3) ** 2))
    assert values[1, 0] == -3
    assert values[0, 1] == pytest.approx(2 / np.sqrt(1 + (2 / 3) ** 2))
    again = Number(Number.Options(transform="robust"), columns=["a", "b"])
    again.load(None, number.save(None))
    same = again.prepare(block(a=[3.0, -1e30], b=[9.0, None])).items.arrays["values"]
    assert np.array_equal(values, same)


def test_the_shape_has_the_quantiles_of_the_training_rows():
    values = np.random.default_rng(0).normal(5, 2, 300)
    shape = fitted(block(a=values, b=np.ones(300))).shape()
    assert shape["columns"] == 2
    assert shape["quantiles"][1] == [], "a constant column has none"
    assert shape["quantiles"][0][32] == pytest.approx((np.median(values) - values.mean()) / values.std())
