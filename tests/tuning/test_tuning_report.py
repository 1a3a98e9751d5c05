"""The report of a search shows its results and loads nothing from other places."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from polymodal.tuning.report import pareto_chart, write_tuning_report
from polymodal.tuning.results import TuningResult
from polymodal.tuning.tune import tune
from tuning.searches import RECIPE, data

MARKUP = "<b>& co</b>"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> TuningResult:
    place = tmp_path_factory.mktemp("search")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLYMODAL_CACHE", str(place / "cache"))
        inputs = {"a": RECIPE["inputs"]["a"], MARKUP: RECIPE["inputs"]["b"]}
        return tune(
            data(80),
            recipe={**RECIPE, "inputs": inputs, "training": {"epochs": 2, "batch_size": 32}},
            space={"hidden_size": [8, 16]},
            folds=2,
            trials=2,
            time_limit=None,
            optimize=["score", "latency"],
            out=place / "out",
        )


class Checked(HTMLParser):
    """Every tag is closed in the order in which it was opened; text is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Closed at once."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_page_shows_candidates_audit_and_recipe(found: TuningResult, tmp_path: Path) -> None:
    path = write_tuning_report(tmp_path / "new", found)
    page = path.read_text(encoding="utf-8")
    checked = Checked()
    checked.feed(page)
    assert checked.open == []
    text = " ".join(" ".join(checked.text).split())
    for entry in found.entries:
        assert entry.candidate.name in text
    for audited in found.audit.outputs["target"].inputs:
        assert audited.summary in text
    assert found.audit.outputs["target"].summary in text
    assert "Pairs of inputs" in text
    assert "milliseconds per row" in text
    assert "fusion:" in text, "the recipe"
    assert MARKUP not in page
    assert MARKUP in text


def test_the_page_is_self_contained(found: TuningResult, tmp_path: Path) -> None:
    page = write_tuning_report(tmp_path, found).read_text(encoding="utf-8")
    assert not re.search(r'(src|href)="(?!#)', page)
    assert "<script" not in page
    assert "url(" not in page


def test_points_of_a_front_are_connected_in_the_order_of_their_costs() -> None:
    points = [("dear", 3.0, 0.9, True), ("cheap", 1.0, 0.5, True), ("bad", 2.0, 0.4, False)]
    chart = pareto_chart(points, title="t", x_label="x", y_label="y", joined=True)
    path = re.search(r'points="([^"]*)"', chart)
    assert path is not None
    xs = [float(point.split(",")[0]) for point in path.group(1).split()]
    assert len(xs) == 2
    assert xs == sorted(xs)
    assert chart.count('class="dot"') == 2
    assert chart.count('class="other"') == 1
    assert "polyline" not in pareto_chart(points, title="t", x_label="x", y_label="y", joined=False)
