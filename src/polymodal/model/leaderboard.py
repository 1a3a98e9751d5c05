"""The leaderboard of a model: its members and their losses on held-out rows."""

from __future__ import annotations

from dataclasses import dataclass

from polymodal.core.formatting import join_words
from polymodal.core.html_table import html_table
from polymodal.model.run_record import RunRecord


@dataclass(frozen=True)
class ComparedMember:
    """A member and how well it predicts one output.

    loss: mean loss of its calibrated predictions for rows that it was not trained on, out of fold for members and the
        validation rows for a network without checkpoints: cross-entropy in nats, or squared error of standardized
        numbers
    weight: its weight in the prediction of the model, from 0 to 1
    seconds: time of fitting and out-of-fold prediction
    """

    member: str
    output: str
    loss: float
    weight: float
    seconds: float


class Leaderboard(list[ComparedMember]):
    """Members, the lowest loss first. A notebook shows a table; `pandas.DataFrame(leaderboard)` is a frame."""

    def _repr_html_(self) -> str:
        rows = [[one.member, f"{one.loss:.3g}", f"{one.weight:.0%}", f"{one.seconds:.1f} s"] for one in self]
        return html_table(rows, ["member", "loss on held-out rows", "weight", "time"])


def leaderboard(run: RunRecord, output: str) -> Leaderboard:
    """The members that were compared for an output, the lowest loss first."""
    rows = [
        ComparedMember(one.name, output, one.loss[output], one.weight[output], one.seconds)
        for one in run.members
        if output in one.loss
    ]
    return Leaderboard(sorted(rows, key=lambda row: row.loss))


def selection_sentence(run: RunRecord, output: str) -> str:
    """What the comparison of the members decided for an output; empty for a network alone."""
    rows = leaderboard(run, output)
    used = [row for row in rows if row.weight]
    if not used:
        return ""
    if len(used) == 1:
        return f"{used[0].member} predicts alone: no combination of members is better beyond doubt"
    best = rows[0].member
    return f"{join_words([row.member for row in used])} predict together, better than {best} alone"
