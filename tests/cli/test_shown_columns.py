"""Tables of the command line: no column of the user's replaces another one."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from polymodal.cli.index import _shown

NAMES = st.sampled_from(["rank", "row", "similarity"]).flatmap(lambda name: st.sampled_from([name, f"{name} ", "a"]))


@given(st.dictionaries(NAMES | st.sampled_from(["rank  ", "row  "]), st.integers(), max_size=8))
@settings(max_examples=200, deadline=None)
def test_every_column_of_a_search_result_is_shown(columns: dict[str, int]) -> None:
    shown = _shown(columns)
    assert list(shown.values()) == list(columns.values())
    assert not {"rank", "similarity", "row"} & set(shown)
    assert [name.strip() for name in shown] == [name.strip() for name in columns]
