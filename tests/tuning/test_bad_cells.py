"""A cell that cannot be used is reported before the search starts, and counted in the leaderboard."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from polymodal import tune
from polymodal.datasets.planted import make_planted_images


def test_a_corrupt_image_is_reported_and_counted_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for row, image in enumerate(make_planted_images(24, 0, size=32)["image"]):
        image.save(tmp_path / f"{row}.png")
    (tmp_path / "7.png").write_bytes(b"not an image")
    data = {"photo": [f"{row}.png" for row in range(24)], "kind": ["a", "b"] * 12}
    photo = {"modality": {"name": "image", "image_size": 32}, "encoder": {"name": "resnet", "channels": 8}}
    recipe = {
        "hidden_size": 8,
        "inputs": {"photo": photo},
        "training": {"epochs": 1, "batch_size": 8, "precision": "fp32", "num_threads": 1},
        "evaluation": {"bootstrap_samples": 20},
    }
    space = {"training.learning_rate": [0.001]}
    out = tmp_path / "out"
    tune(
        data,
        "kind",
        recipe=recipe,
        space=space,
        folds=2,
        trials=1,
        time_limit=None,
        out=out,
        root=tmp_path,
        progress=True,
    )
    printed = "".join(capsys.readouterr())
    assert "1 cell cannot be used" in printed
    assert printed.index("cannot be used") < printed.index("trial 0")
    counts = json.loads((out / "leaderboard.json").read_text())["cell_errors"]
    assert counts == {"count": 1, "by_column": {"photo": 1}, "bad_columns": {}}
