"""A column of media stays one when some of its cells cannot be read."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polymodal.core.errors import DataError
from polymodal.core.paths import cache_folder
from polymodal.data.table.table import open_table
from polymodal.experiments.plan import Plan, make_plan
from polymodal.modalities.intended_media import intended_media
from polymodal.recipe.recipe import Recipe

#: For each kind: suffixes that can be read, and suffixes of formats that cannot.
SUFFIXES = {
    "image": (["png", "JPG", "webp"], ["heic", "avif", "svg", "pdf", "dcm"]),
    "audio": (["wav", "mp3", "flac"], ["aiff", "wma", "amr"]),
    "video": (["mp4", "MOV", "webm"], ["wmv", "flv"]),
    "time_series": (["npy"], ["npz", "mat"]),
}
EMPTY = st.sampled_from(["nan", "None", "N/A", "", " ", "null", "-"])
NAMES = st.text("abcdefgh0123456789_", min_size=1, max_size=8)


def good(kind: str) -> st.SearchStrategy[str]:
    return st.builds("f/{}.{}".format, NAMES, st.sampled_from(SUFFIXES[kind][0]))


def bad(kind: str) -> st.SearchStrategy[str]:
    """Cells that are meant to be media of this kind and cannot be used, and empty words."""
    suffix = st.sampled_from([*SUFFIXES[kind][0], *SUFFIXES[kind][1]])
    forms = [
        "https://a.org/{}.{}",
        "https://a.org/{}.{}?w=90#top",
        "/data/{}.{}",
        "../{}.{}",
        "C:\\x\\{}.{}",
        "s3://b/{}.{}",
    ]
    paths = st.builds(lambda form, name, one: form.format(name, one), st.sampled_from(forms), NAMES, suffix)
    refused = st.builds("{}.{}".format, NAMES, st.sampled_from(SUFFIXES[kind][1]))
    return st.one_of(paths, refused, EMPTY, st.builds("https://a.org/{}".format, NAMES))


def plan_of(cells: list[Any]) -> Plan:
    columns = {"given": cells, "size": [float(row % 7) for row in range(len(cells))]}
    columns["y"] = ["a", "b"] * (len(cells) // 2) + ["a"] * (len(cells) % 2)
    return make_plan(open_table(columns, cache=cache_folder() / "tables"), Recipe(), ["y"])


@pytest.mark.parametrize("kind", SUFFIXES)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_the_kind_stays_for_any_mixture(kind: str, data: st.DataObject) -> None:
    """From one usable cell in ten to all."""
    count = data.draw(st.integers(10, 40))
    usable = data.draw(st.integers(-(-count // 10), count))
    cells = data.draw(st.lists(good(kind), min_size=usable, max_size=usable, unique=True))
    cells += data.draw(st.lists(bad(kind), min_size=count - usable, max_size=count - usable))
    cells = data.draw(st.permutations([*cells, "f/last." + SUFFIXES[kind][0][0]]))
    (role,) = [role for role in plan_of(cells).roles if role.column == "given"]
    assert (role.role, role.kind) == ("input", kind), role


@pytest.mark.parametrize("kind", SUFFIXES)
@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_a_column_of_unreadable_formats_is_never_a_text(kind: str, data: st.DataObject) -> None:
    paths = st.builds("{}.{}".format, NAMES, st.sampled_from(SUFFIXES[kind][1]))
    cells = data.draw(st.lists(paths, min_size=10, max_size=30, unique=True))
    (role,) = [role for role in plan_of(cells).roles if role.column == "given"]
    assert role.kind == kind


def test_the_reason_says_what_else_the_column_holds() -> None:
    cells = [f"{row}.png" for row in range(12)] + ["https://a.org/x"] * 3 + ["see page 3", "b.mp4", "nan", None]
    (role,) = [role for role in plan_of(cells).roles if role.column == "given"]
    assert role.reason == (
        "image paths in 71% of the rows; 1 video cell; 3 cells of an unknown kind; 1 other cell, such as 'see page 3'"
    )


@pytest.mark.parametrize(
    "cells",
    [
        ["I like cats", "the file a.png is broken", "no", "a dog barks", "blue birds sing"] * 4,
        ["https://a.org/x", "https://b.org/y", "https://c.org/z", "https://d.org/page"] * 5,
        ["red", "blue", "nan", "green"] * 5,
        ["nan", "None", "N/A", "null"] * 5,
    ],
)
def test_other_columns_are_no_media(cells: list[str]) -> None:
    (role,) = [role for role in plan_of(cells).roles if role.column == "given"]
    assert role.kind not in SUFFIXES


def test_the_kind_of_single_cells() -> None:
    for cell, kind in [
        ("a.PNG", "image"),
        ({"bytes": None, "path": "a.flac"}, "audio"),
        ({"bytes": b"%PDF-1.7", "path": None}, "image"),
        (b"\x89PNG\r\n\x1a\n", "image"),
        (b"unknown bytes", "any"),
        ("data:image/svg+xml;base64,xx", "image"),
        ("data:application/pdf;base64,xx", "any"),
        ("a line\nb.png", None),
        ("x" * 5000 + ".png", None),
        ({"start": 1}, None),
        (float("nan"), "empty"),
        (3.5, None),
    ]:
        assert intended_media(cell) == kind, cell


def test_photoshop_only_is_refused_by_name() -> None:
    from polymodal.workflows.fit import fit

    with pytest.raises(DataError, match="Photoshop cannot be read either: convert it to JPEG"):
        fit({"photo": [f"{row}.psd" for row in range(20)], "y": ["a", "b"] * 10}, "y", root=cache_folder())
