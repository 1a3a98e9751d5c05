"""`polymodal curate` on planted data: copies are found, swaps come first, leaks are named, the page is whole."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

import polymodal
from polymodal.applications.curation.curate import CurationOptions, curate
from polymodal.cli.commands import app
from polymodal.core.errors import RecipeError
from polymodal.model.model import Model

COLOURS = {"red": (230, 30, 30), "green": (30, 200, 60), "blue": (40, 60, 230), "white": (240, 240, 240)}
PLACES = ("left", "middle", "right", "below")
SWAPPED, COPIED, ROWS = 8, 6, 120


def rows(first: int, number: int) -> list[dict[str, Any]]:
    """Four noisy patches and what they are; no two of the 256 combinations are alike."""
    draw = np.random.default_rng(first)
    order = np.random.default_rng(0).permutation(len(COLOURS) ** len(PLACES))[first : first + number]
    made = []
    for combination in order.tolist():
        names = [list(COLOURS)[combination // len(COLOURS) ** place % len(COLOURS)] for place in range(len(PLACES))]
        pixels = np.concatenate([np.broadcast_to(COLOURS[name], (12, 4, 3)) for name in names], axis=1)
        noisy = np.clip(pixels + draw.normal(0, 12, pixels.shape), 0, 255).astype(np.uint8)
        made.append(
            {"image": noisy, "caption": " ".join(f"{name}{place}" for name, place in zip(names, PLACES, strict=True))}
        )
    return made


def words(row: int) -> str:
    draw = np.random.default_rng(row)
    return " ".join("".join(draw.choice(list("abcdef"), 2)) for _ in range(6))


def written(table: list[dict[str, Any]], folder: Path, name: str) -> Path:
    lines = []
    for place, row in enumerate(table):
        path = folder / f"{name}-{place}.png"
        Image.fromarray(row["image"]).save(path)
        lines.append(json.dumps({"image": path.name, "caption": row["caption"]}))
    (folder / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder / f"{name}.jsonl"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of image and caption; rows that it has not seen, with swapped captions and copied images; test rows, of
    which two are rows of that table again."""
    place = tmp_path_factory.mktemp("curation")
    recipe = {
        "inputs": {
            "image": {
                "modality": {"name": "image", "image_size": 32},
                "encoder": {"name": "vit", "patch_size": 8, "num_layers": 1},
            },
            "caption": {"modality": "text", "encoder": "embedding_bag"},
        },
        "hidden_size": 32,
        "training": {"epochs": 30, "batch_size": 32, "precision": "fp32", "num_threads": 1, "modality_dropout": 0},
        "evaluation": {"bootstrap_samples": 0},
    }
    train = written(rows(0, 130), place, "train")
    polymodal.pretrain(str(train), "contrastive", recipe=recipe, out=place / "model")
    polymodal.fit(
        [{"x": words(row), "y": "ab"[row % 2]} for row in range(60)],
        "y",
        settings=["training.epochs=1", "hidden_size=8", "evaluation.bootstrap_samples=0"],
        out=place / "texts",
    )
    held = rows(130, ROWS)
    captions = [row["caption"] for row in held[:SWAPPED]]
    for row, caption in zip(held, np.roll(captions, 1).tolist(), strict=False):
        row["caption"] = caption
    grain = np.random.default_rng(1)
    copies = [
        {
            "image": np.clip(row["image"] + grain.integers(-1, 2, row["image"].shape), 0, 255).astype(np.uint8),
            "caption": row["caption"],
        }
        for row in held[-COPIED:]
    ]
    written([*held, *copies], place, "held")
    written([*rows(0, 20), held[50], held[51]], place, "test")
    return place


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_planted_copies_and_swaps(folder: Path) -> None:
    command = ["curate", str(folder / "held.jsonl"), "--model", str(folder / "model"), "--out", str(folder / "found")]
    run = CliRunner().invoke(app, [*command, "--against", str(folder / "test.jsonl"), "--json"])
    assert run.exit_code == 0, run.output
    value = json.loads(run.stdout)
    assert not value["trained_on"]
    found = lines(folder / "found" / "duplicates.jsonl")
    near = [one["rows"] for one in found if one["input"] == "image" and one["kind"] == "near"]
    assert sorted(near, key=str) == [{"data": [ROWS - COPIED + place, ROWS + place]} for place in range(COPIED)]
    leaks = [one["rows"] for one in found if one["input"] == "image" and len(one["rows"]) == 2]
    assert leaks == [{"data": [50], "against": [20]}, {"data": [51], "against": [21]}]
    repeated = [one["rows"] for one in found if one["input"] == "caption" and one["kind"] == "exact"]
    assert {"data": [50], "against": [20]} in repeated
    assert {"data": [ROWS - 1, ROWS + COPIED - 1]} in repeated

    judged = [one for one in lines(folder / "found" / "mismatches.jsonl") if one["table"] == "data"]
    assert len(judged) == ROWS + COPIED
    wrong = [one["row"] < SWAPPED for one in judged]
    assert roc_auc_score(wrong, [-one["z_score"] for one in judged]) > 0.95
    assert [one["z_score"] for one in judged] == sorted(one["z_score"] for one in judged)
    listed = [one["row"] < SWAPPED for one in judged if one["flagged"]]
    assert sum(listed) >= SWAPPED / 2
    assert listed.count(False) <= 1

    page = (folder / "found" / "curation.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg;base64,") >= 2 * COPIED + SWAPPED
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert "flagged as a mismatch" in page
    assert "in both tables" in page


def test_rows_trained_on_are_named(folder: Path) -> None:
    command = ["curate", str(folder / "train.jsonl"), "-m", str(folder / "model"), "-o", str(folder / "trained")]
    run = CliRunner().invoke(app, command)
    assert run.exit_code == 0, run.output
    assert "trained on rows of this table" in " ".join(run.output.split())
    assert "trained on rows of this table" in (folder / "trained" / "curation.html").read_text(encoding="utf-8")
    without = [one for one in lines(folder / "trained" / "mismatches.jsonl") if one["flagged"]]
    assert len(without) <= 1


def test_any_model_finds_duplicates_and_only_aligned_ones_mismatches(folder: Path) -> None:
    model = Model.load(folder / "texts")
    data = {"x": [words(row) for row in range(40)] + [words(7)]}
    found = curate(model, data)
    assert found.mismatches == {}
    assert [7, 40] in [group.rows.tolist() for group in found.duplicates["x"].exact]
    with pytest.raises(RecipeError, match="alignment objective"):
        curate(model, data, CurationOptions(find=["mismatches"]))
    with pytest.raises(RecipeError, match="did you mean"):
        curate(Model.load(folder / "model"), str(folder / "held.jsonl"), CurationOptions(inputs=["imag"]))


def test_a_given_threshold_is_kept(folder: Path) -> None:
    found = curate(
        Model.load(folder / "model"), str(folder / "held.jsonl"), CurationOptions(find=["duplicates"], threshold=-1.0)
    )
    (group,) = found.duplicates["image"].groups
    assert len(group.rows) == ROWS + COPIED
