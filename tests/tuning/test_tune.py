"""`tune` from a table to trained models."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from polymodal.core.errors import DataError, MissingExtraError, PolymodalError, RecipeError, TrainingError
from polymodal.datasets.planted import make_planted_images
from polymodal.model.loading import load
from polymodal.model.model import Model
from polymodal.tuning.results import TuningResult
from polymodal.tuning.tune import tune
from tuning.searches import RECIPE, data

FUSIONS = {"fusion": ["late", "concat"]}


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYMODAL_CACHE", str(tmp_path_factory.mktemp("cache")))


def run(out: Path, source: Any = None, **more: Any) -> TuningResult:
    given: dict[str, Any] = {"recipe": RECIPE, "space": FUSIONS, "folds": 2, "trials": 2, "time_limit": None, **more}
    return tune(source or data(), out=out, **given)


def test_a_search_ends_with_the_best_recipe_trained_and_goes_on_when_resumed(tmp_path: Path) -> None:
    found = run(tmp_path)
    assert found.recipe.fusion is not None
    assert found.recipe.fusion.name == "concat"
    assert Model.load(tmp_path / "best").recipe.fusion == found.recipe.fusion
    fresh = {name: cells[:20] for name, cells in data(200).items()}
    answers = load(tmp_path / "best").predict({name: cells for name, cells in fresh.items() if name != "target"})
    assert np.mean(np.array(answers) == np.array(fresh["target"])) > 0.8
    written = json.loads((tmp_path / "leaderboard.json").read_text())
    assert written == json.loads(json.dumps(found.to_dict()))
    assert written["best"] == found.best.name
    statuses = Counter(entry["status"] for entry in written["leaderboard"])
    assert statuses["complete"] == 2
    assert statuses["baseline"] >= 3
    best = next(entry for entry in written["leaderboard"] if entry["name"] == written["best"])
    accuracy = best["metrics"]["target"]["accuracy"]
    assert accuracy["low"] <= accuracy["value"] == written["score"] <= accuracy["high"]
    assert set(written["corrected"]) == {"best", "ensemble"}
    assert written["ensemble"]["score"] >= written["score"]
    assert {one["verdict"] for one in written["audit"]["outputs"]["target"]["inputs"]} <= {
        "informative",
        "redundant",
        "synergistic",
        "uninformative",
    }
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "trials").iterdir()}
    kept |= {path: path.stat().st_mtime_ns for path in (tmp_path / "baselines").iterdir()}
    with pytest.raises(PolymodalError, match="set resume or overwrite"):
        run(tmp_path)
    with pytest.raises(PolymodalError, match="another space"):
        run(tmp_path, resume=True, space={"fusion": ["concat"]})
    with pytest.raises(PolymodalError, match="another fingerprint"):
        run(tmp_path, data(120), resume=True)
    again = run(tmp_path, resume=True, space=None)  # the space of the search that is there
    assert [entry.candidate.name for entry in again.entries] == [entry.candidate.name for entry in found.entries]
    assert all(path.stat().st_mtime_ns == written for path, written in kept.items())


def test_processes_share_the_trials_of_a_search(tmp_path: Path) -> None:
    choices = {"fusion": ["late", "concat", "gated", "sum", "mean"]}
    found = run(tmp_path, space=choices, trials=5, jobs=2)
    tried = Counter(entry.overrides["fusion"] for entry in found.entries if entry.status != "baseline")
    assert tried == Counter(choices["fusion"])
    assert found.recipe.fusion is not None
    assert found.recipe.fusion.name != "late"


def test_a_failed_trial_is_listed_in_the_report(tmp_path: Path) -> None:
    impossible = {"name": "bottleneck", "num_layers": 2, "fusion_layer": 1}
    found = run(tmp_path, space={"fusion": [impossible, "concat"]})
    (failed,) = found.failed
    assert "fusion_layer" in failed.reason
    assert "fusion_layer" in (tmp_path / "tuning.html").read_text(encoding="utf-8")


def test_if_every_trial_fails_the_reasons_are_listed(tmp_path: Path) -> None:
    impossible = [{"name": "bottleneck", "num_layers": 2, "fusion_layer": layer} for layer in (1, 2)]
    with pytest.raises(TrainingError, match=r"none of 2 trials(.|\n)*fusion_layer"):
        run(tmp_path, space={"fusion": impossible})


def test_invalid_arguments_are_rejected_before_files_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with pytest.raises(RecipeError, match="did you mean 'fusion'"):
        run(out, space={"fusoin": ["late"]})
    with pytest.raises(RecipeError, match="did you mean 'score'"):
        run(out, optimize=["scroe"])
    with pytest.raises(RecipeError, match="needs a limit"):
        run(out, trials=None)
    with pytest.raises(RecipeError, match="must be positive"):
        run(out, jobs=0)
    with pytest.raises(DataError, match="folds"):
        run(out, data(8), folds=20)
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtraError, match=r"polymodal\[tune\]"):
        run(out)
    assert not out.exists()


def test_a_folder_with_other_files_is_not_changed(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(PolymodalError, match="not empty"):
        run(tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == ["notes.txt"]


def test_cells_that_no_other_process_can_be_given_are_refused(tmp_path: Path) -> None:
    from polymodal.experiments.arguments import as_table
    from polymodal.tuning.search_file import share_table

    columns = make_planted_images(4, seed=0)
    table = as_table(columns, None)
    assert table is not None
    with pytest.raises(DataError, match="one process"):
        share_table(table, columns, None, tmp_path)


def test_a_table_in_memory_reaches_other_processes_whole(tmp_path: Path) -> None:
    from polymodal.data.table.table import open_table
    from polymodal.experiments.arguments import as_table
    from polymodal.tuning.search_file import share_table

    given = pa.table({"x": [1.5, None, 2.0], "word": ["a", "b", None], "many": [[1, 2], [], [3]]})
    table = as_table(given, tmp_path)
    assert table is not None
    source, root = share_table(table, given, tmp_path, tmp_path)
    assert root is not None
    read = open_table(source, root=Path(root), cache=tmp_path / "tables")
    assert read.fingerprint() == table.fingerprint()
    assert read.root == table.root
