"""Time series from files and cells: valid and invalid input, steps and times."""

import dataclasses
import io
import json

import numpy as np
import pytest

from polymodal.data.media import time_series
from polymodal.data.media.source import MediaError
from polymodal.data.media.time_series import (
    RawTimeSeries,
    TimeSeriesRequest,
    build_series,
    decode,
    parse_text,
    read_cell,
    read_file,
)
from polymodal.recipe.data import LimitOptions

LIMITS = LimitOptions()
NAN = float("nan")


def npy(array, **options):
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asarray(array), **options)
    return file.getvalue()


def values(data, **request):
    request = TimeSeriesRequest(**{"channels": 2, **request})
    return decode(data, request, LIMITS)["values"]


@pytest.mark.parametrize("dtype", ["f2", ">f4", "f8", "i1", "u8", "?"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_of_every_number_format(dtype, order):
    array = np.asarray([[0, 1], [1, 1], [1, 0]], dtype=dtype, order=order)
    found = decode(npy(array), TimeSeriesRequest(channels=2, sampling_rate=4.0), LIMITS)
    np.testing.assert_array_equal(found["values"], [[0, 1], [1, 1], [1, 0]])
    np.testing.assert_array_equal(found["times"], [0, 0.25, 0.5])
    layout = time_series.layout(TimeSeriesRequest(channels=2))
    assert {name: (array.dtype.name, array.shape[1:]) for name, array in found.items()} == layout
    np.testing.assert_array_equal(values(npy(array.T), layout="channels_first"), array.astype(float))
    np.testing.assert_array_equal(values(npy(array[:, 0]), channels=1), array[:, :1].astype(float))


def header(shape, kind="<f8", version=b"\x01\x00"):
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (npy(np.array([{"a": 1}], dtype=object), allow_pickle=True), "array of numbers"),
        (npy(np.array(["a"])), "array of numbers"),
        (npy(np.zeros(2, [("a", "f4")])), "array of numbers"),
        (npy(np.zeros((2, 2, 2))), "one or two dimensions"),
        (npy(np.zeros(())), "one or two dimensions"),
        (npy(np.zeros((40, 2)))[:-1], "incomplete"),
        (npy(np.zeros((40, 2)))[:30], "header"),
        (header("(1000000, 1000000)"), "1,000,000,000,000 numbers are over the limit"),
        (header("(-4, -4)"), "dimensions"),
        (header("(99999999999999999999999, 2)"), "over the limit"),
        (header("(2, 2)", version=b"\x09\x00"), "version"),
        (header("__import__('os').getpid()"), "header"),
        (b"\x89PNG\r\n\x1a\n\xff", "neither"),
        (b"a,b\n1,2\n3\n", "line 3 has 1 cells"),
        (b"a,b\n1,2\nx,3\n", "line 3: 'x' is not a number"),
        (b"a,b\n1,2\n1_0,3\n", "'1_0' is not a number"),
        (b"a,a\n1,2\n", "same name"),
        (b"a,b\n", "no numbers"),
        (b"1,2\n1e99,3\n", "finite"),
        (b"1,2,3\n4,5,6\n", "expected 2 channels, not 3"),
        (b"1,\x00\n", "neither"),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_reason(data, reason):
    with pytest.raises(MediaError, match=reason):
        decode(data, TimeSeriesRequest(channels=2), LIMITS)


def test_limits_hold_for_every_form():
    few = LimitOptions(values=9)
    lists = [[1.0, 2.0]] * 5
    for data in (npy(lists), b"1,2\n" * 5):
        with pytest.raises(MediaError, match="10 numbers are over the limit of 9"):
            read_file(data, few)
    for cell in (lists, np.array(lists), {"a": [1.0] * 5, "b": [2.0] * 5}, "1 2;" * 5):
        with pytest.raises(MediaError, match="10 numbers are over the limit of 9"):
            read_cell(cell, few)
        assert read_cell(cell, LIMITS) is not None


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_csv_with_and_without_a_header(separator):
    text = "time,b,a\n10,1,2\n10.5,,4\n13,5,nan\n".replace(",", separator)
    found = decode(text.encode(), TimeSeriesRequest(channels=2, channel_names=("a", "b"), time_channel="time"), LIMITS)
    np.testing.assert_array_equal(found["values"], [[2, 1], [4, NAN], [NAN, 5]])
    np.testing.assert_array_equal(found["times"], [0, 0.5, 3])
    bare = "\ufeff" + text.split("\n", 1)[1].replace("\n", "\r\n")
    again = decode(bare.encode(), TimeSeriesRequest(channels=2, time_channel=0), LIMITS)
    np.testing.assert_array_equal(again["values"], [[1, 2], [NAN, 4], [5, NAN]])
    np.testing.assert_array_equal(again["times"], found["times"])
    sideways = decode(bare.encode(), TimeSeriesRequest(channels=3, layout="channels_first"), LIMITS)
    assert sideways["values"].shape == (3, 3), "lines are steps, whatever the layout of arrays"


@pytest.mark.parametrize(
    ("time", "reason"),
    [
        ("2,1\n1,1\n", "decrease"),
        ("1,1\n,1\n", "gap"),
    ],
)
def test_times_must_be_usable(time, reason):
    with pytest.raises(MediaError, match=reason):
        decode(time.encode(), TimeSeriesRequest(channels=1, time_channel=0), LIMITS)
    for place in (7, "clock"):
        with pytest.raises(MediaError, match="no time channel"):
            decode(b"1,2\n3,4\n", TimeSeriesRequest(channels=1, time_channel=place), LIMITS)


@pytest.mark.parametrize(
    ("cell", "wanted"),
    [
        ([1, None, 2.5], [1, NAN, 2.5]),
        ([[1, 2], None, [None, 4]], [[1, 2], [NAN, NAN], [NAN, 4]]),
        ((True, False), [1, 0]),
        (np.array([[1, 2], [3, 4]], np.int16), [[1, 2], [3, 4]]),
        ([np.array([1.0, 2.0]), np.array([3.0, 4.0])], [[1, 2], [3, 4]]),
        ({"x": [1, 2], "y": [None, 4], "z": None}, [[1, NAN, NAN], [2, 4, NAN]]),
        ("1.5 2; 3,-4e1\n 5 nan;", [[1.5, 2], [3, -40], [5, NAN]]),
        ("1, 2, nan, 4", [1, 2, NAN, 4]),
        ("1;2;3", [[1], [2], [3]]),
    ],
    ids=str,
)
def test_cells_of_every_form(cell, wanted):
    raw = read_cell(cell, LIMITS)
    assert raw.values.dtype == np.float32
    np.testing.assert_array_equal(raw.values, wanted)


@pytest.mark.parametrize(
    "cell", ["walk/1.npy", "n.csv", "1_0 2", b"1,2", {"bytes": b"", "path": None}, 5.0, "", "12 a"]
)
def test_what_is_no_series_in_memory_is_left_to_the_reader_of_files(cell):
    assert read_cell(cell, LIMITS) is None


@pytest.mark.parametrize(
    "cell",
    [
        [[1, 2], [3]],
        [1, [2]],
        ["a", "b"],
        [[[1.0]]],
        [10**400],
        np.array(["a"]),
        np.array([1j]),
        {"x": [1, 2], "y": [1]},
        {"x": 3},
        {"x": [[1, 2]]},
        "1 2;3",
    ],
    ids=str,
)
def test_cells_that_are_no_even_numbers_are_refused(cell):
    with pytest.raises(MediaError):
        read_cell(cell, LIMITS)


def test_longer_series_are_cut_or_pooled_and_gaps_do_not_count():
    raw = RawTimeSeries(np.array([[1, NAN], [3, NAN], [5, 6], [7, NAN], [9, 2]], np.float32))
    cut = build_series(raw, TimeSeriesRequest(channels=2, max_steps=2, long_series="truncate"))
    np.testing.assert_array_equal(cut["values"], [[1, NAN], [3, NAN]])
    pooled = build_series(raw, TimeSeriesRequest(channels=2, max_steps=3, long_series="pool"))
    np.testing.assert_array_equal(pooled["values"], [[2, NAN], [6, 6], [9, 2]])
    np.testing.assert_array_equal(pooled["times"], [0.5, 2.5, 4])
    assert pooled["values"].dtype == pooled["times"].dtype == np.float32


def test_a_series_without_a_number_is_none_at_all():
    for cell in ([], [None, None], [[NAN, NAN]], np.zeros((0, 2))):
        assert build_series(read_cell(cell, LIMITS), TimeSeriesRequest(channels=2)) == {}


def test_a_cell_is_left_as_it_was():
    array = np.array([[1.0, NAN], [2.0, 3.0]], np.float32)
    before = array.copy()
    found = build_series(read_cell(array, LIMITS), TimeSeriesRequest(channels=2))
    found["values"][:] = 9
    np.testing.assert_array_equal(array, before)


def test_requests_travel_as_json():
    request = TimeSeriesRequest(channels=2, channel_names=("a", "b"), time_channel="t", long_series="pool")
    fields = json.loads(json.dumps(dataclasses.asdict(request)))
    assert decode(b"a,t,b\n1,0,2\n", TimeSeriesRequest(**fields), LIMITS)["values"].tolist() == [[1, 2]]


@pytest.mark.parametrize("text", ["", "2020-01-02", "call 12 34", "1.2.3", "0x10", "1e5e5", "n/a"])
def test_other_texts_are_no_numbers(text):
    assert parse_text(text) is None


def test_damaged_files_never_raise_anything_else():
    draw = np.random.default_rng(0)
    reasons = []
    for data in (npy(np.ones((9, 2))), b"time,a,b\n0,1,2\n1,,4\n2,5,6\n"):
        for _ in range(400):
            damaged = bytearray(data)
            for place in draw.integers(0, len(damaged), draw.integers(1, 4)):
                damaged[place] = draw.integers(0, 256)
            try:
                decode(bytes(damaged[: draw.integers(1, len(data) + 1)]), TimeSeriesRequest(channels=2), LIMITS)
            except MediaError as error:
                reasons.append(str(error))
    assert len(reasons) > 100
    assert not any("Error" in reason for reason in reasons)
