"""Runs on several tables: the options that name them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

More = Annotated[list[str] | None, typer.Option("--with", help="Another table of the same run; repeat for more.")]
Valid = Annotated[list[str] | None, typer.Option(help="Table for validation, repeat for several; default: split off.")]
Test = Annotated[
    list[str] | None, typer.Option(help="Table for the final score, repeat for several; default: split off.")
]


def with_more(data: str, more: list[str] | None) -> Any:
    """The table of a run, or all of its tables."""
    return [data, *more] if more else data


def one_or_more(given: list[str] | None) -> Any:
    """A table, or several, that may be left out."""
    return None if not given else given[0] if len(given) == 1 else given
