"""`polymodal index`, `search` and `unindex`, with a model that learned which picture a text describes."""

from __future__ import annotations

import json
import shutil
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import polymodal
from polymodal.applications.search import Index, IndexOptions, add_table, embed_query, index_table, load_source_model
from polymodal.cli.commands import app
from polymodal.core.errors import ArtifactError, DataError, RecipeError
from polymodal.data.table.cell_errors import BadCellsWarning

COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 200, 40),
    "blue": (30, 40, 220),
    "yellow": (230, 220, 40),
    "white": (245, 245, 245),
    "black": (10, 10, 10),
}
NAMES = list(COLOURS)
IMAGE = {"modality": {"name": "image", "image_size": 32}, "encoder": {"name": "vit", "patch_size": 16, "num_layers": 1}}


def write_rows(folder: Path, name: str, number: int, seed: int) -> Path:
    """Pictures of one colour, what they show, and a price; row i has the colour i modulo 6."""
    draw = np.random.default_rng(seed)
    lines = []
    for place in range(number):
        colour = NAMES[place % len(NAMES)]
        pixels = np.broadcast_to(np.array(COLOURS[colour]), (16, 16, 3)) + draw.normal(0, 15, (16, 16, 3))
        path = folder / f"{name}-{place}.png"
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)
        lines.append({"image": path.name, "caption": f"a {colour} bus", "price": place, "colour": colour})
    (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder / f"{name}.jsonl"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("search")
    recipe = {
        "inputs": {
            "image": IMAGE,
            "caption": {"modality": "text", "encoder": "embedding_bag"},
        },
        "hidden_size": 32,
        "training": {"epochs": 15, "batch_size": 24, "precision": "fp32", "num_threads": 1, "modality_dropout": 0},
        "evaluation": {"bootstrap_samples": 0},
    }
    polymodal.pretrain(str(write_rows(folder, "train", 144, 0)), "contrastive", recipe=recipe, out=folder / "model")
    write_rows(folder, "new", 60, 1)
    write_rows(folder, "more", 12, 2)
    return folder


@pytest.fixture
def index(place: Path, tmp_path: Path) -> Path:
    run("index", place / "new.jsonl", "--model", place / "model", "--out", tmp_path / "index", "--input", "image")
    return tmp_path / "index"


def run(*arguments: object) -> dict[str, Any]:
    done = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def colours(found: dict[str, Any]) -> list[str]:
    return [row["columns"]["colour"] for row in found["rows"]]


def test_texts_and_pictures_find_pictures(place: Path, index: Path) -> None:
    for name in NAMES:
        assert colours(run("search", index, f"a {name} bus", "--top-k", 10)) == [name] * 10
    found = run("search", index, place / "more-2.png")
    assert colours(found) == ["blue"] * 10
    assert [row["rank"] for row in found["rows"]] == list(range(1, 11))
    similarity = [row["similarity"] for row in found["rows"]]
    assert similarity == sorted(similarity, reverse=True)
    own = run("search", index, place / "new-7.png", "--top-k", 1)["rows"][0]
    assert own["row"] == own["columns"]["price"] == 7
    assert own["similarity"] == pytest.approx(1, abs=1e-5)


def test_a_row_goes_to_the_inputs_whose_columns_it_has(place: Path, index: Path) -> None:
    alone = json.dumps({"image": "more-0.png"})
    assert run("search", index, alone, "--root", place)["rows"] == run("search", index, place / "more-0.png")["rows"]
    both = {"image": "more-0.png", "caption": "a green bus"}
    whole = run("search", index, json.dumps(both), "--root", place)
    assert set(colours(whole)) <= {"red", "green"}
    assert colours(run("search", index, json.dumps(both), "--root", place, "--input", "caption")) == ["green"] * 10


def test_conditions_and_counts(index: Path) -> None:
    found = run("search", index, "a red bus", "--filter", "price < 24 and colour != 'red'", "--top-k", 50)
    assert len(found["rows"]) == 20
    assert all(row["columns"]["price"] < 24 and row["columns"]["colour"] != "red" for row in found["rows"])
    with pytest.raises(DataError, match="did you mean 'price'"):
        run("search", index, "a red bus", "--filter", "prise < 24")


def test_rows_come_and_go(place: Path, index: Path) -> None:
    added = run("index", place / "more.jsonl", "--out", index, "--add")
    assert (added["added"], added["rows"]) == (12, 72)
    red = run("search", index, "a red bus", "--top-k", 12)
    assert {row["row"] for row in red["rows"]} == {*range(0, 72, 6)}
    assert (
        run("index-delete", index, "--row", 0, "--row", 66, "--filter", "colour == 'blue'", "--compact")["deleted"]
        == 14
    )
    assert {row["row"] for row in run("search", index, "a red bus")["rows"]} == {*range(6, 66, 6)}
    assert "blue" not in colours(run("search", index, "a blue bus", "--top-k", 100))
    assert len(Index.open(index)) == 58


def test_approximate_states_its_recall(place: Path, tmp_path: Path) -> None:
    pytest.importorskip("usearch")
    out = tmp_path / "index"
    built = run("index", place / "new.jsonl", "-m", place / "model", "-o", out, "--approximate", "--metadata", "colour")
    assert built["recall@10"] == 1
    assert built["input"] is None
    assert built["columns"] == ["colour"]
    assert colours(run("search", out, "a white bus")) == ["white"] * 10
    text = CliRunner().invoke(app, ["search", str(out), "a white bus", "--top-k", "2"]).output
    words = [word for word in text.split() if word.strip("─")]
    assert words == ["rank", "similarity", "row", "colour", "1", *words[5:8], "2", *words[9:]]


def test_a_table_with_one_of_the_inputs_is_indexed_by_it(place: Path, tmp_path: Path) -> None:
    table = {"image": [f"new-{row}.png" for row in range(6)]}
    index, missing = index_table(table, place / "model", tmp_path / "index", root=place)
    assert index.manifest.source is not None
    assert index.manifest.source.input == "image"
    assert index.columns == ["image"]
    assert len(missing) == 0


def test_rows_without_the_input_are_listed_and_left_out(place: Path, tmp_path: Path) -> None:
    table = {"image": ["new-0.png", None, "no.png", "new-3.png"]}
    with pytest.warns(BadCellsWarning):
        index, missing = index_table(table, place / "model", tmp_path / "index", root=place)
    assert missing.tolist() == [1, 2]
    assert index.ids.tolist() == [0, 3]
    with pytest.raises(DataError, match="row 2"):
        index_table(table, place / "model", tmp_path / "strict", root=place, strict=True)
    ids, missing = add_table(index, {"image": [None, "new-1.png"]}, root=place)
    assert (ids.tolist(), missing.tolist()) == ([-1, 5], [0])


def test_the_index_knows_its_model(place: Path, index: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(place / "model", tmp_path / "moved")
    source = Index.open(index).manifest.source
    assert source is not None
    gone = source.model_copy(update={"path": str(tmp_path / "gone")})
    with pytest.raises(ArtifactError, match="--model"):
        load_source_model(gone)
    load_source_model(gone, moved)
    assert colours(run("search", index, "a red bus", "--model", moved)) == ["red"] * 10
    manifest = moved / "manifest.json"
    manifest.write_text(manifest.read_text() + " ")
    with pytest.raises(ArtifactError, match="another model"):
        run("search", index, "a red bus", "--model", moved)
    with pytest.raises(ArtifactError, match="without a model"):
        run("search", Index.build(tmp_path / "plain", [[1.0, 0.0]]).folder, "a red bus")


def test_queries_that_no_input_reads_are_refused(place: Path, index: Path, tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "clip.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(b"\0\0" * 800)
    (tmp_path / "damaged.png").write_bytes((place / "new-0.png").read_bytes()[:60])
    (tmp_path / "unknown.xyz").write_bytes(b"\0\1\2")
    model, source = load_source_model(Index.open(index).manifest.source)
    for query, message in (
        (tmp_path / "clip.wav", "an audio file, and the model has no such input"),
        (tmp_path / "damaged.png", "column 'image'"),
        (tmp_path / "unknown.xyz", "a file of an unknown format"),
        ('{"title": "a"}', "needs the columns of an input: caption, image"),
        ('{"title": ', "is not valid JSON"),
    ):
        with pytest.raises(DataError, match=message):
            embed_query(model, source, str(query))
    with pytest.raises(RecipeError, match="did you mean 'caption'"):
        embed_query(model, source, "a red bus", input="captions")
    with pytest.raises(DataError, match=r"is a text .* 'image' can"):
        embed_query(model, source, "a red bus", input="image")


def test_a_model_without_a_common_space_searches_like_with_like(place: Path, tmp_path: Path) -> None:
    recipe = {
        "inputs": {
            "image": IMAGE,
            "caption": "text",
        },
        "training": {"epochs": 1, "num_threads": 1},
        "evaluation": {"bootstrap_samples": 0, "unimodal_scores": "mask"},
    }
    polymodal.fit(str(place / "train.jsonl"), "colour", recipe=recipe, out=tmp_path / "model")
    index, _ = index_table(
        str(place / "new.jsonl"), tmp_path / "model", tmp_path / "index", IndexOptions(input="image")
    )
    model, source = load_source_model(index.manifest.source)
    found = index.search(embed_query(model, source, str(place / "new-5.png")), 1)
    assert found.ids.tolist() == [[5]]
    with pytest.raises(DataError, match="only 'image' can"):
        embed_query(model, source, "a red bus")
    whole, _ = index_table(str(place / "new.jsonl"), tmp_path / "model", tmp_path / "whole")
    model, source = load_source_model(whole.manifest.source)
    row = {"image": "new-5.png", "caption": "a black bus"}
    assert whole.search(embed_query(model, source, row, root=place), 1).ids.tolist() == [[5]]
    embed_query(model, source, "a red bus")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["index", "new.jsonl", "--out", "other"], "give the model that embeds the rows"),
        (["index", "new.jsonl", "--out", "index", "--add", "--input", "image"], "the settings of an index are fixed"),
        (["index-delete", "index"], "give --row NUMBER"),
    ],
)
def test_what_is_missing_or_too_much_is_named(arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2
    assert message in done.output
