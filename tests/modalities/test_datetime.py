"""The `datetime` modality: features, missing cells, saved state, one meaning in every format, and planted targets."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from laws.samples import prepare, table_of
from polymodal.core.errors import RecipeError
from polymodal.data.table.cell_errors import CellErrors
from polymodal.experiments.plan import make_plan
from polymodal.modalities.datetime import Datetime
from polymodal.model.model import Model
from polymodal.recipe.recipe import Recipe
from polymodal.workflows.fit import fit, pretrain

START = dt.datetime(2023, 1, 1, 8)
QUICK = {"training.precision": "fp32", "training.num_threads": 1, "evaluation.unimodal_scores": "none"}


def fitted(columns: Any, **options: Any) -> tuple[Datetime, dict[str, np.ndarray]]:
    """The modality of all columns, fitted on all rows, and its prepared arrays by feature name."""
    modality = Datetime(Datetime.Options(**options), columns=list(columns))
    table = table_of(columns)
    limits = Recipe().data.limits
    block = table.block(np.arange(len(table)), list(columns), errors=CellErrors(), limits=limits)
    modality.fit([block])
    prepared = modality.prepare(block)
    items = prepared.items.take(np.arange(len(table)))
    names = [f"{name}.{one.name}" for name, own in zip(columns, modality.features, strict=True) for one in own] + [
        f"{one.name} {first}-{second}" for first, second, one in modality.pairs
    ]
    found = {
        name: np.where(known, values, np.nan)
        for name, values, known in zip(names, items["values"].T, items["known"].T, strict=True)
    }
    return modality, {**found, "index": prepared.index}


def same(found: np.ndarray, wanted: Any) -> bool:
    """Whether `found` is `wanted`, standardized."""
    values = np.asarray(wanted, np.float64)
    return bool(np.allclose(found, (values - np.nanmean(values)) / np.nanstd(values), atol=1e-4, equal_nan=True))


def test_the_features_of_dates() -> None:
    times = [START + dt.timedelta(hours=37 * row) for row in range(400)]
    _, found = fitted({"sent": times})
    assert same(found["sent.days"], [37 / 24 * row for row in range(400)])
    assert same(found["sent.year"], [time.year for time in times])
    assert same(found["sent.month"], [time.month for time in times])
    assert same(found["sent.day"], [time.day for time in times])
    assert same(found["sent.weekday"], [time.weekday() for time in times])
    assert same(found["sent.hour"], [time.hour for time in times])
    assert same(found["sent.weekend"], [time.weekday() >= 5 for time in times])
    assert same(found["sent.weekday_sin"], [np.sin(2 * np.pi * time.weekday() / 7) for time in times])
    assert same(found["sent.hour_cos"], [np.cos(2 * np.pi * time.hour / 24) for time in times])
    assert {"sent.day_sin", "sent.day_of_year_cos"} < set(found)


def test_what_does_not_vary_is_no_feature() -> None:
    """Noon of the first Monday of each of three months."""
    _, found = fitted({"sent": ["2026-03-02 12:00", "2026-04-06 12:00", "2026-06-01 12:00"]})
    assert not {"sent.weekday", "sent.weekend", "sent.hour", "sent.year", "sent.weekday_sin"} & set(found)
    assert {"sent.days", "sent.month", "sent.day", "sent.day_of_year_sin"} < set(found)
    modality, found = fitted({"sent": ["2026-03-02"] * 3})
    assert list(found) == ["sent.days", "index"]
    assert found["index"].tolist() == [0, 1, 2]
    assert modality.shape() == {"columns": 1, "groups": [1]}


def test_missing_and_bad_cells() -> None:
    columns = {"sent": ["2026-03-02", None, "soon", "2026-05-05"], "back": ["2026-03-05", "2026-03-09", None, "NA"]}
    table, errors = table_of(columns), CellErrors()
    modality, found = fitted(columns)
    block = table.block(np.arange(4), list(columns), errors=errors, limits=Recipe().data.limits)
    modality.prepare(block)
    assert [(one.row, one.column, one.reason) for one in errors.errors] == [(2, "sent", "'soon' is not a date")]
    assert np.isnan(found["sent.days"]).tolist() == [False, True, True, False]
    assert np.isnan(found["back.days"]).tolist() == [False, False, True, True]
    assert found["index"].tolist() == [0, 1, -1, 3]


def test_the_elapsed_time_of_each_pair_of_columns() -> None:
    draw = np.random.default_rng(0)
    days = draw.integers(1, 60, 50)
    columns = {
        "ordered": [START + dt.timedelta(days=row) for row in range(50)],
        "sent": [None if row == 7 else START + dt.timedelta(days=row + int(days[row])) for row in range(50)],
        "born": [dt.date(1990, 1, 1) + dt.timedelta(days=31 * row) for row in range(50)],
        "took": [dt.timedelta(hours=row) for row in range(50)],
    }
    modality, found = fitted(columns)
    wanted = days.astype(float)
    wanted[7] = np.nan
    assert same(found["elapsed_days 0-1"], wanted)
    assert [one for one in found if "elapsed" in one] == ["elapsed_days 0-1", "elapsed_days 0-2", "elapsed_days 1-2"]
    assert modality.describe().endswith("elapsed: ordered to sent, ordered to born, sent to born")
    assert "took (duration)" in modality.describe()
    assert [len(fitted(columns, max_elapsed_pairs=count)[0].pairs) for count in (0, 2)] == [0, 2]


def test_elapsed_time_and_trend_are_in_utc_and_the_hour_is_local() -> None:
    west = [f"2026-03-{day:02}T08:00:00-05:00" for day in range(1, 29)]
    east = [f"2026-03-{day:02}T{20 if day % 2 else 14}:00:00+01:00" for day in range(1, 29)]
    _, found = fitted({"west": west, "east": east})
    assert same(found["elapsed_days 0-1"], [6 / 24 if day % 2 else 0 for day in range(1, 29)])
    assert "west.hour" not in found


def test_long_tails_of_durations_are_logarithms() -> None:
    draw = np.random.default_rng(0)
    long = [str(dt.timedelta(seconds=float(one))) for one in draw.lognormal(5, 2, 300)]
    even = [f"PT{minute}M" for minute in range(300)]
    modality, _ = fitted({"duration": long, "even": even})
    assert modality.describe() == "duration (duration, logarithm), even (duration)"


def test_an_undecidable_order_of_day_and_month_asks(tmp_path: Path) -> None:
    texts = [f"{day}/{month}/2026" for day in range(1, 13) for month in range(1, 13)]
    open_dates = {"sent": texts, "y": list(range(144))}
    with pytest.raises(
        RecipeError, match=r"inputs.sent.modality.day_first: column 'sent': each date such as '1/2/2026'"
    ):
        fit(open_dates, "y", recipe={"training": {"epochs": 1}})
    for day_first in (True, False):
        _, found = fitted({"sent": texts}, day_first=day_first)
        months = [int(text.split("/")[day_first]) for text in texts]
        assert same(found["sent.month"], months)
    equal = {"sent": [f"{day}/{day}/2026" for day in range(1, 13)]}
    assert same(fitted(equal)[1]["sent.month"], range(1, 13))
    both = {"sent": ["25/2/2026", "2/25/2026"] * 10}
    with pytest.raises(RecipeError, match="some dates have the day first"):
        fitted(both)


def test_the_plan_decides_the_order_for_all_columns_that_agree() -> None:
    columns = {"sent": ["3/2/2026", "25/2/2026"] * 20, "got": ["2026-03-02", "2026-03-05"] * 20, "y": [0, 1] * 20}
    recipe = make_plan(table_of(columns), Recipe(), ["y"]).recipe
    assert recipe.inputs["dates"].columns == ["sent", "got"]
    assert recipe.inputs["dates"].modality.day_first is True


def test_whole_numbers_are_dates_only_where_the_recipe_says_so() -> None:
    seconds = [1_700_000_000 + 86_400 * row for row in range(40)]
    plan = make_plan(table_of({"at": seconds, "size": np.sqrt(seconds), "y": [0, 1] * 20}), Recipe(), ["y"])
    assert all(role.kind != "datetime" for role in plan.roles)
    for integers, cells in {
        "seconds": seconds,
        "milliseconds": [1000 * second for second in seconds],
        "yyyymmdd": [int(f"{dt.datetime.fromtimestamp(one, dt.UTC):%Y%m%d}") for one in seconds],
    }.items():
        for form in (cells, [str(cell) for cell in cells], [float(cell) for cell in cells]):
            _, found = fitted({"at": form}, integers=integers)
            assert same(found["at.days"], range(40))
    errors = CellErrors()
    modality, _ = fitted({"at": ["2026-03-02", "2026-03-03"]})
    block = table_of({"at": [20260302, 5]}).block(np.arange(2), ["at"], errors=errors, limits=Recipe().data.limits)
    modality.prepare(block)
    assert "set `integers`" in errors.errors[0].reason


@pytest.mark.parametrize("count", [1, 3])
def test_the_state_is_saved(count: int, tmp_path: Path) -> None:
    columns = {f"c{at}": [f"{day}/{1 + (day + at) % 12}/2026" for day in range(1, 25)] for at in range(count)}
    columns["lasted"] = [f"{hour}:30" for hour in range(10, 34)]
    columns["gone"] = [None] * 24
    preparation, _ = prepare(
        columns, inputs={"x": {"modality": "datetime", "columns": list(columns)}}, objectives=["masked_modeling"]
    )
    modality = preparation.modalities["x"]
    state = json.loads(json.dumps(modality.save(tmp_path)))
    again = Datetime(modality.options, columns=list(columns))
    again.load(tmp_path, state)
    assert again.save(tmp_path) == modality.save(tmp_path)
    assert again.describe() == modality.describe()
    assert "gone (no value)" in modality.describe()


def moments(rows: int) -> dict[str, list[Any]]:
    """Dates and a target of weekday, month and elapsed time."""
    draw = np.random.default_rng(0)
    opened = [
        START + dt.timedelta(days=int(day), hours=int(hour))
        for day, hour in zip(draw.integers(0, 900, rows), draw.integers(0, 9, rows), strict=True)
    ]
    closed = [
        one + dt.timedelta(days=float(days)) for one, days in zip(opened, draw.exponential(10, rows), strict=True)
    ]
    y = [
        3.0 * (one.weekday() >= 5) * (1 if one.month in (6, 7, 8) else -1)
        + np.log1p((other - one).total_seconds() / 86_400)
        for one, other in zip(opened, closed, strict=True)
    ]
    return {"opened": opened, "closed": closed, "y": [float(value) for value in y]}


@pytest.fixture(scope="module")
def model() -> Model:
    return fit(moments(1200), "y", settings={**QUICK, "training.epochs": 40, "hidden_size": 32})


def test_weekday_month_and_elapsed_time_are_learned(model: Model) -> None:
    """The baseline, the mean, has R2 0."""
    assert list(model.recipe.inputs) == ["dates"]
    assert model.metrics["test"]["y"]["r2"]["value"] > 0.8


def test_a_date_gets_one_prediction_in_every_format_and_alone(model: Model, tmp_path: Path) -> None:
    columns = {name: cells[:20] for name, cells in moments(1200).items() if name != "y"}
    wanted = model.predict(columns)
    texts = {name: [cell.isoformat(sep=" ") for cell in cells] for name, cells in columns.items()}
    frame = pd.DataFrame(columns)
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_parquet(tmp_path / "t.parquet")
    frame.astype(str).to_json(tmp_path / "t.jsonl", orient="records", lines=True)
    spelled = {name: [f"{cell:%b %d, %Y %I:%M:%S.%f %p}" for cell in cells] for name, cells in columns.items()}
    zoned = {name: pd.to_datetime(cells).tz_localize("UTC") for name, cells in columns.items()}
    arrow = pa.table({name: pa.array(cells, pa.timestamp("us")) for name, cells in columns.items()})
    arrays = {name: np.array(cells, dtype="datetime64[us]") for name, cells in columns.items()}
    sources = [
        frame,
        texts,
        spelled,
        zoned,
        arrow,
        arrays,
        tmp_path / "t.csv",
        tmp_path / "t.parquet",
        tmp_path / "t.jsonl",
    ]
    for source in sources:
        np.testing.assert_allclose(model.predict(source), wanted, atol=1e-4)
    for row in (0, 7):
        for single in (columns, texts):
            found = model.predict({name: cells[row] for name, cells in single.items()})
            np.testing.assert_allclose(found, wanted[row], atol=1e-4)


def test_periods_of_pandas_are_dates() -> None:
    months = pd.period_range("2024-01", periods=40, freq="M")
    _, found = fitted(pd.DataFrame({"month": months}))
    assert same(found["month.month"], [month.month for month in months])


def test_models_of_texts_and_of_timestamps_are_one(tmp_path: Path) -> None:
    columns = moments(60)
    texts = {**columns, **{name: [cell.isoformat() for cell in columns[name]] for name in ("opened", "closed")}}
    quick = {**QUICK, "training.epochs": 1, "hidden_size": 8}
    one, other = (fit(source, "y", settings=quick) for source in (columns, texts))
    rows = {name: cells[:5] for name, cells in texts.items() if name != "y"}
    np.testing.assert_allclose(one.predict(rows), other.predict(rows), atol=1e-5)
    one.save(tmp_path / "model")
    np.testing.assert_allclose(Model.load(tmp_path / "model").predict(rows), one.predict(rows), atol=1e-6)


def test_dates_are_pretrained() -> None:
    """A masked column is predicted from the other one: its loss falls below that of the mean."""
    columns = {name: cells for name, cells in moments(300).items() if name != "y"}
    quick = {"training.precision": "fp32", "training.num_threads": 1, "training.epochs": 30, "hidden_size": 16}
    model = pretrain(columns, settings=quick)
    assert model.recipe.objectives[0].name == "masked_modeling"
    loss = model.metrics["test"]["masked_modeling.dates"]["loss"]
    assert loss["value"] < 0.9 * loss["baseline"]
