"""Inputs of commands: tables, a model, and rows to predict."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from polymodal.core.errors import RecipeError

if TYPE_CHECKING:
    from polymodal.data.table.table import Table
    from polymodal.model.model import Model


class OpensTables(Protocol):
    """A model, an ensemble or a classifier that opens tables."""

    def open(self, data: Any, root: Path | str | None = None) -> Table: ...


#: Seconds of the units of a time limit.
UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


def all_tables(data: str, more: list[str] | None) -> Any:
    """One table, or the list of all tables of a run."""
    return [data, *more] if more else data


def single_or_list(values: list[str] | None) -> Any:
    """None, one table, or a list of several."""
    return None if not values else values[0] if len(values) == 1 else values


def training_settings(settings: list[str] | None, strict: bool) -> list[str]:
    """The settings of `--set`, with the one for `--strict`."""
    return [*(settings or []), *(["data.strict=true"] if strict else [])]


def load_single_model(folder: Path, needed: str) -> Model:
    """Load the model in `folder`.

    Raises:
        PolymodalError: the folder holds an ensemble; `needed` is the message.
        ArtifactError: the folder holds no model.
    """
    from polymodal.core.errors import PolymodalError
    from polymodal.model.loading import load
    from polymodal.model.model import Model

    model = load(folder)
    if not isinstance(model, Model):
        raise PolymodalError(needed)
    return model


def open_rows(model: OpensTables, data: str, root: Path | None) -> Table:
    """The table `data`, or the rows in it as JSON, whose media paths are relative to the current folder."""
    return model.open(data, media_root(data, root))


def media_root(data: str, root: Path | None) -> Path | None:
    """`root`; if not given, the current folder for rows given as JSON in the command."""
    return root or (Path.cwd() if data.lstrip().startswith(("{", "[")) else None)


def as_seconds(text: str) -> float | None:
    """Seconds of `90`, `90s`, `10m` or `1.5h`; None for `none`.

    Raises:
        RecipeError: the text is none of these.
    """
    if text.strip().lower() == "none":
        return None
    matched = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip().lower())
    if matched is None or float(matched[1]) == 0:
        raise RecipeError("", f"--time-limit must be 90s, 10m, 2h or none, not {text!r}")
    return float(matched[1]) * UNITS[matched[2]]
