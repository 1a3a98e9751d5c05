"""The rows on which members are compared."""

from __future__ import annotations

import numpy as np

from polymodal.data.partition import Split
from polymodal.experiments.member_rows import MemberRows
from polymodal.preparation.preparation import PreparedTable


def part(groups: list[int] | None, rows: list[int]) -> Split[PreparedTable]:
    """Some rows of a table with these groups."""
    own = None if groups is None else np.array(groups)
    return Split(PreparedTable({}, {}, None, 4, {}, groups=own), np.array(rows))


def test_groups_of_two_tables_are_kept_and_are_not_the_same_groups() -> None:
    both = MemberRows((part([5, 5, 0, 2], [0, 1, 3]), part([0, 5, 5, 1], [1, 2, 3])), ())
    groups = both.groups()
    assert groups is not None
    assert groups[0] == groups[1] != groups[2]
    assert groups[3] == groups[4] != groups[5]
    assert not set(groups[:3]) & set(groups[3:])


def test_without_groups_in_a_table_there_are_none() -> None:
    assert MemberRows((part(None, [0, 1]),), ()).groups() is None
    assert MemberRows((part([0, 0, 1, 1], [0]), part(None, [0])), ()).groups() is None
