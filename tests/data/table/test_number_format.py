"""The format of written numbers: what is a number, what is a code, and what is a date."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polymodal.data.table.date_format import are_dates
from polymodal.data.table.number_format import PLAIN, NumberFormat, column_format, infer_format
from polymodal.data.table.sample import ColumnSample
from polymodal.modalities.category import Category
from polymodal.modalities.number import Number
from polymodal.modalities.text import Text
from polymodal.tasks.classification import ClassificationTask
from polymodal.tasks.regression import RegressionTask
from polymodal.tasks.text_generation import TextGenerationTask


@pytest.mark.parametrize(
    ("texts", "numbers"),
    [
        (["$25.10", "$3", "-$1,300.00", "($5.00)"], [25.1, 3, -1300, -5]),
        (["1,234", "5", "1,234,567"], [1234, 5, 1234567]),
        (["12,5", "3", "0,25"], [12.5, 3, 0.25]),
        (["1.234,50 €", "3,2 €"], [1234.5, 3.2]),
        (["5%", "7.5 %"], [5, 7.5]),
        (["12 kg", "3.5kg", "1"], [12, 3.5, 1]),
        (["1 234,5", "2\u00a0000", "1\u202f000"], [1234.5, 2000, 1000]),
        (["1'000", "2'500.5"], [1000, 2500.5]),
        (["USD 5", "USD 1,000"], [5, 1000]),
        (["1e5", "-2E-3", ".5", "+4"], [1e5, -2e-3, 0.5, 4]),
        (["−3", "2"], [-3, 2]),
    ],
)
def test_numbers_are_read_as_a_person_reads_them(texts: list[str], numbers: list[float]) -> None:
    format = infer_format(texts)
    assert format is not None
    assert [format.read(text) for text in texts] == pytest.approx(numbers)
    assert NumberFormat(**format.to_dict()) == format
    assert [format.read(word) for word in ("", "NA", " nan ", "null")] == [None] * 4


@pytest.mark.parametrize(
    "texts",
    [
        ["01234", "94110", "00501"],
        ["007", "8"],
        ["123456789012345678", "123456789012345679"],
        ["A1", "B2"],
        ["Room 1", "Room 2"],
        ["1.2.3", "1.2.4"],
        ["1,2,3", "4,5,6"],
        ["12:30", "13:30"],
        ["3/4", "1/2"],
        ["$5", "€5", "£5"],
        ["5 kg", "5 lb", "7 oz"],
        ["1-2", "3-4"],
        ["", "NA"],
    ],
)
def test_codes_and_ambiguous_texts_are_no_numbers(texts: list[str]) -> None:
    assert infer_format(texts * 10) is None
    assert column_format([texts * 10]) == PLAIN


@pytest.mark.parametrize("text", ["€5", "5 lb", "abc", "1,23", "5 kg kg", "(5", "--5", "5.5.5"])
def test_a_text_in_another_format_is_an_error_that_shows_the_format(text: str) -> None:
    with pytest.raises(ValueError, match=r"written like '\$1,234.5'"):
        NumberFormat("$", ",").read(text)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.decimals(-(10**12), 10**12, places=2), min_size=3, max_size=20),
    st.sampled_from(["", "$", "€", "%", "kg"]),
    st.sampled_from([",.", ".,", " ,", " .", "'."]),
)
def test_written_numbers_are_read_back(values: list[Any], symbol: str, marks: str) -> None:
    """Any number with decimals and a group, written in any format, is read back."""
    values = [*values, 1234567.25]

    def write(value: Any) -> str:
        digits = f"{abs(value):,.2f}".translate(str.maketrans(",.", marks))
        return ("-" if value < 0 else "") + (symbol + digits if symbol == "$" else f"{digits} {symbol}".strip())

    format = infer_format([write(value) for value in values])
    assert format is not None
    assert [format.read(write(value)) for value in values] == pytest.approx([float(value) for value in values])


def sample(values: list[Any], name: str = "x") -> ColumnSample:
    return ColumnSample(name, values, None, len(values), len(values), 0, None)


def best(components: list[Any], values: list[Any]) -> str | None:
    found = [(match.confidence, one.__name__) for one in components if (match := one.match_column(sample(values)))]
    return max(found)[1] if found else None


MODALITIES = [Number, Category, Text]
TASKS = [ClassificationTask, RegressionTask, TextGenerationTask]


@pytest.mark.parametrize(
    ("values", "modality", "task"),
    [
        ([f"${number}.50" for number in range(200)], "Number", "RegressionTask"),
        ([f"{number / 7:.1f}%" for number in range(200)], "Number", "RegressionTask"),
        ([f"0.{number:03}" for number in range(200)], "Number", "RegressionTask"),
        ([f"{number:05}" for number in range(0, 99999, 3000)] * 5, "Category", "ClassificationTask"),
        ([2**60 + number for number in range(4)] * 50, "Category", None),
        ([f"2026-03-{day:02}" for day in range(1, 29)] * 3, None, None),
        ([f"{day}/12/2025 14:30" for day in range(1, 29)] * 3, None, None),
        (["red", "blue", "green"] * 50, "Category", "ClassificationTask"),
        ([f"a text of {number} words that differ" for number in range(100)], "Text", "TextGenerationTask"),
    ],
)
def test_what_a_column_is(values: list[Any], modality: str | None, task: str | None) -> None:
    assert best(MODALITIES, values) == modality
    if task is not None:
        assert best(TASKS, values) == task


def test_marks_among_numbers_are_bad_cells() -> None:
    cells = ["1", "2.5", "?", "NA", "-"] * 20
    assert best(MODALITIES, cells) == "Number"
    format = column_format([cells])
    assert format == PLAIN
    assert format.read("NA") is None
    with pytest.raises(ValueError, match=r"'\?' is not a number"):
        format.read("?")


def test_distinct_codes_are_neither_numbers_nor_texts_to_generate() -> None:
    codes = [f"{number:06}" for number in np.random.default_rng(0).permutation(200)]
    assert best([Number, Text], codes) is None
    assert best([RegressionTask, TextGenerationTask], codes) is None
    assert best([RegressionTask, TextGenerationTask], [f"A-{code}" for code in codes]) is None
    assert best([RegressionTask, TextGenerationTask], ["on request", *(f"${n}.5" for n in range(9))]) is None
    assert are_dates(["2026-01-01", "1 Jan 2026", "Jan 1, 2026", "2026-01-01T10:00:00Z", "31.12.2025"])
    assert are_dates(["12:45"])
    assert not are_dates(["1.10.2", "3/4", "2026", "version 2", ""])
