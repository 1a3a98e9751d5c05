"""The columns of a job as data frames for scikit-learn."""

from __future__ import annotations

from types import SimpleNamespace

import pandas as pd

MOST_CATEGORIES = 200


def of_types(job: SimpleNamespace, *types: str) -> list[str]:
    """The input columns of these types."""
    return [name for name, one in job.types.items() if one in types]


def tabular(job: SimpleNamespace) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Numbers, categories as pandas categories, and dates as numbers. Codes with very many values are left out."""
    parts = [pd.DataFrame({name: part[name] for name in job.types}) for part in (job.train, job.test)]
    made = [part[of_types(job, "number")].astype(float) for part in parts]
    for name in of_types(job, "category"):
        values = sorted(parts[0][name].dropna().unique())
        if len(values) <= MOST_CATEGORIES:
            for frame, part in zip(made, parts, strict=True):
                frame[name] = pd.Categorical(part[name], categories=values)
    for name in of_types(job, "date"):
        for frame, part in zip(made, parts, strict=True):
            moment = pd.to_datetime(part[name], dayfirst="." in str(part[name].iloc[0]))
            frame[f"{name} day"] = (moment - pd.Timestamp("2000-01-01")) / pd.Timedelta("1D")
            for field in ("day", "hour"):
                frame[f"{name} {field}"] = getattr(moment.dt, field).astype(float)
            for field, first, last in (("month", 1, 12), ("day_of_week", 0, 6)):
                values = list(range(first, last + 1))
                frame[f"{name} {field}"] = pd.Categorical(getattr(moment.dt, field), categories=values)
    return made[0], made[1]


def texts(job: SimpleNamespace, part: dict) -> list[str]:
    """All text columns of each row, joined."""
    columns = [part[name] for name in of_types(job, "text")]
    return [" . ".join(cell for cell in cells if cell) for cells in zip(*columns, strict=True)]
