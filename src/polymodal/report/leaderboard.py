"""The members of a model that were compared: for the terminal, the report and `Model.leaderboard`."""

from __future__ import annotations

from rich.console import RenderableType

from polymodal.core.formatting import format_duration, format_score
from polymodal.core.terminal import cells_table
from polymodal.model.leaderboard import ComparedMember, leaderboard
from polymodal.model.model import Model

HEADER = ("member", "loss", "weight", "time")
#: Rows on the terminal.
MAX_ROWS = 10


def leaderboard_cells(rows: list[ComparedMember]) -> list[tuple[str, str, str, str]]:
    """The rows as texts, in the order of `HEADER`."""
    return [
        (row.member, format_score(row.loss), f"{row.weight:.0%}" if row.weight else "", format_duration(row.seconds))
        for row in rows
    ]


def leaderboard_tables(model: Model) -> list[RenderableType]:
    """A table for each output, the best member first; none for a network alone."""
    tables: list[RenderableType] = []
    for output in model.recipe.outputs if model.run.members else []:
        rows = leaderboard(model.run, output)
        title = "Members" if len(model.recipe.outputs) == 1 else f"Members for {output}"
        shown = leaderboard_cells(rows[:MAX_ROWS])
        tables += [cells_table(HEADER, shown, f"{title} by held-out loss"), ""]
    return tables
