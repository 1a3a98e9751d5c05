"""The report and the card of small runs: complete, self-contained, and safe with hostile data."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from polymodal.core.formatting import format_score
from polymodal.datasets import planted
from polymodal.model.model import Model
from polymodal.model.run_record import RunRecord
from polymodal.report.card import render_card, write_card
from polymodal.report.score_table import model_score_table
from polymodal.workflows.fit import fit
from setting_lists import replaced

SMALL = [
    "training.epochs=2",
    "training.num_threads=1",
    "training.precision=fp32",
    "evaluation.unimodal_scores=mask",
    "evaluation.bootstrap_samples=20",
    "hidden_size=16",
]
HOSTILE = "<script>alert('x')</script>"
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Tags and attributes of a page; refuses tags that are not closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def run(folder: Path, data: dict[str, list[Any]], target: Any, *settings: str, **more: Any) -> tuple[Model, Page, str]:
    model = fit(data, target=target, settings=replaced(SMALL, *settings), out=folder, **more)
    html = (folder / "report.html").read_text(encoding="utf-8")
    return model, Page(html), html


def terminal(model: Model, width: int = 80) -> str:
    console = Console(width=width, file=None, record=True, quiet=True)
    with console.capture() as capture:
        console.quiet = False
        console.print(model_score_table(model))
    return capture.get()


def check_self_contained(page: Page, html: str) -> None:
    assert page.open == []
    assert "script" not in {tag for tag, _ in page.tags}
    assert "link" not in {tag for tag, _ in page.tags}
    for _, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes)
        assert attributes.get("src", "data:").startswith("data:")  # type: ignore[union-attr]
        assert attributes.get("href", "#").startswith("#")  # type: ignore[union-attr]
    assert not re.search(r"url\(|@import", html)
    assert all(image["alt"] for image in page.all("img"))
    assert all(header.get("scope") for header in page.all("th"))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {link["href"] for link in page.all("a")} <= {f"#{one}" for one in ids}


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Page, str, Path]:
    """Classes, numbers and labels from pictures and hostile text, with bad cells and repeated pictures."""
    rows = 120
    pictures, table = planted.make_planted_images(rows, 0), planted.make_planted_table(rows, 1)
    words = [f"{HOSTILE} {{{{ 7 * 7 }}}} | `{i}` {topic}" for i, topic in enumerate(pictures["shape"])]
    data = {
        "image": [pictures["image"][i // 2] for i in range(rows)],
        HOSTILE: words,
        "length": table["length"],
        "colour": [pictures["color"][i // 2] if i % 3 else HOSTILE for i in range(rows)],
        "price": table["price"],
        "tags": [f"{shape}|{HOSTILE}" if i % 2 else shape for i, shape in enumerate(pictures["shape"])],
    }
    data["image"][3] = "nowhere/at/all.png"
    folder = tmp_path_factory.mktemp("several") / "model"
    model, page, html = run(folder, data, ["colour", "price", "tags"])
    return model, page, html, folder


def test_every_output_is_shown(several: tuple[Model, Page, str, Path]) -> None:
    model, page, html, _ = several
    check_self_contained(page, html)
    for name in ("colour", "price", "tags"):
        assert f"Loss of {name} by epoch" in html
    assert "Confusion matrix of colour" in html
    assert "Confusion matrix of tags" not in html
    assert "Predicted over true price" in html
    assert "Reliability of the probabilities of tags" in html
    assert page.words.count("Largest errors") == 3
    assert page.all("img")
    assert model.recipe.fusion is not None
    assert f"name: {model.recipe.fusion.name}" in page.words


def test_the_evidence_is_shown(several: tuple[Model, Page, str, Path]) -> None:
    _, page, html, _ = several
    assert page.words.count("Contributions of the inputs") == 3
    assert page.words.count("Sets and abstention") >= 1
    assert "Risk of colour over coverage, test rows" in html
    assert "Risk of price" not in html
    assert page.words.count("Smallest errors") >= 1
    assert any(table.get("class") == "reasons" for table in page.all("table"))


def test_slices_and_coverage_of_many_rows(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    x, site, rows = draw.normal(size=1500), draw.choice(["north", "south"], 1500), 1500
    right = np.where(site == "north", draw.random(rows) < 0.5, x > 0)
    data = {"x": x.tolist(), "maker": draw.choice(["a", "b"], rows).tolist(), "site": site.tolist()}
    data["grade"] = np.where(right, "high", "low").tolist()
    settings = ["data.split.test_size=0.4", "data.ignore_columns=[site]", "training.learning_rate=0.02", "members=[]"]
    _, page, html = run(tmp_path / "m", data, "grade", *settings)
    check_self_contained(page, html)
    assert "site is 'north'" in page.words
    assert re.search(r"90%\s*9[0-9]\.\d%|90%\s*8[6-9]\.\d%", page.words)


def test_hostile_text_is_text(several: tuple[Model, Page, str, Path]) -> None:
    _, page, html, _ = several
    assert HOSTILE in page.words
    assert "&lt;script&gt;" in html
    assert "{{ 7 * 7 }}" in page.words


def test_faults_and_shared_items_are_said(several: tuple[Model, Page, str, Path]) -> None:
    _, page, _, _ = several
    assert "1 cell could not be used" in page.words
    assert "nowhere/at/all.png" in page.words
    assert "Test items are in the training rows." in page.words
    assert re.search(r"\d+ of 12 test rows have an image \(input “image”\) that training rows have too", page.words)


def test_card_escapes_and_tells_the_scores(several: tuple[Model, Page, str, Path]) -> None:
    model, _, _, folder = several
    card = (folder / "README.md").read_text(encoding="utf-8")
    outside_code = re.sub(r"```.*?```", "", card, flags=re.S)
    assert "<script>" not in outside_code.replace("\\<script\\>", "")
    value = model.metrics["test"]["price"]["rmse"]["value"]
    assert f"| RMSE (lower is better) | {format_score(value)} |" in card
    assert "**Warning:**" in card
    assert model.run.fingerprints["table"] in card
    code = re.search(r"predict\((.*)\)\n", card)
    assert code is not None
    assert set(eval(code[1], {})) == set(model.preparation.input_columns)
    tables = [line for line in card.splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in tables if line.startswith("| RMSE")} == {8}


def test_terminal_table_names_every_output(several: tuple[Model, Page, str, Path]) -> None:
    model, _, _, _ = several
    shown = terminal(model)
    assert "12 test rows" in shown
    for word in ("colour", "price", "tags", "RMSE", "image only", "length only"):
        assert word in shown
    assert max(len(line) for line in shown.splitlines()) <= 80


def test_without_a_test_part(tmp_path: Path) -> None:
    data = planted.make_planted_table(80, 0)
    model, page, html = run(tmp_path / "m", data, "grade", "data.split.test_size=0", "evaluation.unimodal_scores=none")
    check_self_contained(page, html)
    assert "There are no test rows" in page.words
    assert "Scores on validation rows" in page.words
    assert "8 validation rows" in terminal(model)
    assert " only" not in terminal(model)


def test_rows_without_target_and_no_bootstrap(tmp_path: Path) -> None:
    """A test part in which one of two targets is missing has no score of it, and the report says so."""
    data = planted.make_planted_table(80, 0)
    test = {name: list(values) for name, values in data.items()}
    test["price"] = [None] * 80
    model, page, html = run(tmp_path / "m", data, ["price", "grade"], "evaluation.bootstrap_samples=0", test=test)
    assert model.metrics["test"]["price"]["rmse"]["left_out"] == {"missing_target": 80}
    check_self_contained(page, html)
    assert "The RMSE is undefined on the test rows." in page.words
    assert "No test row is wrong." in page.words
    assert "–" in terminal(model)


def test_only_frequent_classes_are_in_the_matrix(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    number = generator.permutation(np.arange(400) % 40)
    data = {"x": (number + 0.1 * generator.normal(size=400)).tolist(), "y": [f"class {n}" for n in number]}
    _, page, html = run(tmp_path / "m", data, "y", "evaluation.unimodal_scores=none")
    check_self_contained(page, html)
    assert "30 most frequent" in " ".join(page.words.split())
    assert len([cell for cell in page.all("td") if "--share" in (cell.get("style") or "")]) == 900


def test_the_card_of_a_loaded_model_is_the_same(several: tuple[Model, Page, str, Path], tmp_path: Path) -> None:
    _, _, _, folder = several
    write_card(tmp_path, Model.load(folder))
    assert (tmp_path / "README.md").read_bytes() == (folder / "README.md").read_bytes()
    bare = Model.load(folder)
    bare.metrics, bare.run = {}, RunRecord()
    assert "The model has not been scored." in render_card(bare)
    assert "No scores" in terminal(bare)
