"""The summary of a model, its leaderboard and its recipe, as lines and as tables of a notebook."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

import polymodal
from command_line import run_command
from polymodal.model.model import Model

TABLE = {
    "length <i>": [1.0, 1.2, 5.0, 5.1] * 10,
    "kind & sort": ["<b>short</b>", "<b>short</b>", "long", "long"] * 10,
}
SETTINGS = {"training.epochs": 1, "training.num_threads": 1, "evaluation.bootstrap_samples": 0}


class Words(HTMLParser):
    """The tags and the texts of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.fixture(scope="module", params=["fast", "network"])
def model(request: pytest.FixtureRequest) -> Model:
    quality = {"quality": "fast"} if request.param == "fast" else {}
    settings = SETTINGS if request.param == "network" else {"evaluation.bootstrap_samples": 0}
    return polymodal.fit(TABLE, "kind & sort", settings=settings, **quality)  # type: ignore[arg-type]


def test_the_summary_says_what_the_model_reads_predicts_and_scores(model: Model, tmp_path: Path) -> None:
    text = str(model.summary())
    score = next(iter(model.metrics["test"]["kind & sort"].values()))
    for part in ("length <i>", "kind & sort: classification", f"{score['rows']} rows", "test score"):
        assert part in text
    assert ("member" in text) == (model.ensemble is not None)
    assert ("parameters" in text) == model.has_network
    model.save(tmp_path / "model")
    assert str(Model.load(tmp_path / "model").summary()) == text


def test_tables_of_a_notebook_have_the_same_facts_and_no_tags_of_the_data(model: Model) -> None:
    for shown in (model, model.summary(), model.leaderboard(), model.recipe):
        page = Words(shown._repr_html_())
        assert set(page.tags) <= {"table", "tr", "th", "td", "pre"}
    facts = [text for fact in model.summary().facts for text in fact]
    assert Words(model.summary()._repr_html_()).texts == facts


def test_short_forms_are_short(model: Model) -> None:
    assert repr(model) == "<polymodal.Model of length <i> -> kind & sort>"
    assert len(repr(model.recipe)) < 120
    assert "kind & sort" in str(model.recipe)
    assert model.classes_ == model.classes == ["<b>short</b>", "long"]


def test_columns_that_no_input_reads_are_named_with_the_reason(tmp_path: Path) -> None:
    table = {**TABLE, "key": [f"K-{one:04}" for one in range(40)], "same": ["x"] * 40, "unused": [0.5, 1.5] * 20}
    settings = {**SETTINGS, "members": [], "data.ignore_columns": ["unused"], "evaluation.unimodal_scores": "none"}
    summary = polymodal.fit(table, "kind & sort", settings=settings).summary()
    assert [text.split(":")[0] for name, text in summary.facts if name == "left out"] == ["key", "same"]
    pd.DataFrame(table).to_csv(tmp_path / "table.csv", index=False)
    words = [word for name, value in settings.items() for word in ("--set", f"{name}={json.dumps(value)}")]
    done = run_command("fit", "table.csv", "--target", "kind & sort", *words, "--out", "run", cwd=tmp_path)
    shown = " ".join(done.stdout.split())
    assert "left out key: identifiers such as 'K-0000'" in shown
    assert "left out same: the same value in every sampled row" in shown
    assert "unused" not in shown
