"""Damaged directories: each is refused with an error of the package, or gives what the whole one gives, to the bit.

Every test generates directories from a fixed seed: 2,200 in all.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bad_input.samples import train
from damage import copy_linked, damage, mutate_signed_model, mutated, replace
from polymodal.applications.few_shot.few_shot import FewShot
from polymodal.applications.search.index import Index
from polymodal.checkpoint.training_state_file import TrainingState, read_checkpoint, write_checkpoint
from polymodal.core.errors import ArtifactError, PolymodalError
from polymodal.data.store.store import MediaStore, content_key
from polymodal.data.table.table import open_table
from polymodal.model.ensemble import Ensemble, ensemble
from polymodal.model.model import Model
from polymodal.tuning.candidate import Candidate
from polymodal.workflows.fit import fit

Use = Callable[[Path], Any]

COLUMNS: dict[str, list[Any]] = {
    "note": ["a red ball", "two cups", "a blue car", "no thing"] * 6,
    "length": [float(row % 7) for row in range(24)],
    "width": [row * 1.5 for row in range(24)],
    "maker": ["ada", "bob", "eve"] * 8,
    "grade": ["low", "high"] * 12,
    "price": [row * 0.5 for row in range(24)],
}
ROW = {"note": ["a red car"], "length": [2.0], "width": [3.0], "maker": ["bob"]}


@pytest.fixture(scope="module")
def model() -> Model:
    inputs = {"note": "text", "size": {"modality": "number", "columns": ["length", "width"]}, "maker": "category"}
    outputs = {"grade": "classification", "price": "regression"}
    return train(COLUMNS, None, recipe={"inputs": inputs, "outputs": outputs})


@pytest.fixture(scope="module")
def saved(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model.save(tmp_path_factory.mktemp("saved") / "model")


def predicted(folder: Path) -> list[bytes]:
    return [values.tobytes() for values in Model.load(folder).predict_proba(ROW).values()]


def check(whole: Path, use: Use, count: int, work: Path, *, seed: int) -> None:
    """Damage `count` copies of a directory and use each."""
    expected, failures, refused = use(copy_linked(whole, work / "whole")), [], 0
    for case in range(count):
        folder = copy_linked(whole, work / "damaged")
        how = damage(folder, np.random.default_rng([seed, case]))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = use(folder)
        except PolymodalError:
            refused += 1
        except Exception as error:  # noqa: BLE001
            failures.append(f"{case} {how}: {type(error).__name__}: {error}")
        else:
            failures += [f"{case} {how}: another result"] if found != expected else []
    assert not failures, f"{len(failures)} of {count}: " + "\n".join(failures[:20])
    assert use(copy_linked(whole, work / "again")) == expected


def test_models(saved: Path, tmp_path: Path) -> None:
    check(saved, predicted, 500, tmp_path, seed=1)


def test_models_with_changed_structure_and_right_checksums(saved: Path, tmp_path: Path) -> None:
    """A change that is signed is another model: it is refused, or it predicts one row."""
    failures, refused = [], 0
    for case in range(300):
        folder = copy_linked(saved, tmp_path / "damaged")
        how = mutate_signed_model(folder, np.random.default_rng([2, case]))
        try:
            loaded = Model.load(folder)
        except PolymodalError:
            refused += 1
            continue
        except Exception as error:  # noqa: BLE001
            failures.append(f"{case} {how}: {type(error).__name__}: {error}")
            continue
        try:
            with np.errstate(all="ignore"):
                found = loaded.predict_proba(ROW)
            assert all(len(values) == 1 for values in (found.values() if isinstance(found, dict) else [found]))
        except PolymodalError:
            refused += 1
        except Exception as error:  # noqa: BLE001
            failures.append(f"{case} {how}: in predict: {type(error).__name__}: {error}")
    assert not failures, f"{len(failures)}: " + "\n".join(failures[:20])
    assert refused > 100


def test_checkpoints(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    tensors = {"a": torch.randn(3, 4), "b.c": torch.arange(5), "d": torch.ones(2, dtype=torch.bfloat16)}
    write_checkpoint(folder / "checkpoint.safetensors", TrainingState(tensors, {"epoch": 1, "history": [1.5, None]}))

    def content(folder: Path) -> object:
        state = read_checkpoint(folder / "checkpoint.safetensors")
        return state.metadata, sorted((name, str(one.dtype), one.tolist()) for name, one in state.tensors.items())

    check(folder, content, 300, tmp_path, seed=3)


def interrupt(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def test_a_damaged_checkpoint_is_not_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"training.epochs": 2, "training.num_threads": 1}
    columns = {name: COLUMNS[name] for name in ("length", "grade")}
    with monkeypatch.context() as patch:
        patch.setattr("polymodal.workflows.fit.score_model", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fit(columns, "grade", settings=settings, out=tmp_path / "run")
    path = tmp_path / "run" / "checkpoint.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20] + bytes([whole[-20] ^ 1]) + whole[-19:])
    with pytest.raises(ArtifactError, match=r"checkpoint\.safetensors is damaged .* delete it to train from the start"):
        fit(columns, "grade", settings=settings, out=tmp_path / "run", resume=True)
    path.write_bytes(whole)
    fit(columns, "grade", settings=settings, out=tmp_path / "run", resume=True)


def test_few_shot_classifiers(model: Model, tmp_path: Path) -> None:
    rows = {name: COLUMNS[name] for name in (*ROW, "grade")}
    whole = FewShot.fit(model, rows, "grade").save(tmp_path / "head")
    check(whole, lambda folder: FewShot.load(folder).predict_proba(ROW).tobytes(), 250, tmp_path, seed=4)


def test_ensembles(model: Model, tmp_path: Path) -> None:
    whole = ensemble([model, model]).save(tmp_path / "ensemble")
    check(whole, lambda folder: [one.tobytes() for one in Ensemble.load(folder).predict_proba(ROW).values()], 100,
          tmp_path, seed=5)  # fmt: skip


def test_indexes(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(30, 6))
    Index.build(tmp_path / "index", vectors, {"color": ["red", "green", "blue"] * 10})
    Index.open(tmp_path / "index").delete([4, 5])

    def found(folder: Path) -> object:
        index = Index.open(folder)
        results = index.search(vectors[:2], 4, filter="color != 'red'")
        return len(index), results.ids.tolist(), results.similarity.tolist(), index.take(results.ids[0]).to_pydict()

    check(tmp_path / "index", found, 250, tmp_path, seed=6)


def test_stores_of_media_and_features(tmp_path: Path) -> None:
    items = {content_key(bytes([one])): np.full((one % 3 + 1, 4), one, np.float32) for one in range(6)}
    layout = {"values": ("float32", (4,))}

    def content(folder: Path) -> object:
        """The items, of which the missing ones are made again, as a run does."""
        store = MediaStore(folder, layout, "as they are", True)
        missing = [key for key, known in zip(items, store.contains(list(items)), strict=True) if not known]
        store.add(missing, [{"values": items[key]} for key in missing])
        taken = store.open(list(items)).take(np.arange(len(items)))
        return {name: array.tolist() for name, array in taken.items()}

    store = MediaStore(tmp_path / "media", layout, "as they are", True)
    for key, values in items.items():
        store.add([key], [{"values": values}])
    del store
    check(tmp_path / "media", content, 250, tmp_path, seed=7)


def test_converted_tables(tmp_path: Path) -> None:
    source = tmp_path / "t.csv"
    source.write_text("a,b\n" + "".join(f"{row},word {row}\n" for row in range(50)))
    open_table(source, cache=tmp_path / "tables")

    def cells(folder: Path) -> object:
        table = open_table(source, cache=folder)
        return {name: table.values(name, np.arange(len(table))).to_pylist() for name in table.columns}

    check(tmp_path / "tables", cells, 100, tmp_path, seed=8)


def test_candidates_of_a_search(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((20, 2))
    metrics: dict[str, Any] = {"y": {"accuracy": {"value": 0.5, "low": None, "high": None}}}
    Candidate("trial 0", "trial", {"seed": 1}, {"y": values}, 0.5, metrics, [0.4, 0.6], 1.0, 10, 0.1, 1.5, 2).save(
        tmp_path / "trials", "0"
    )

    def content(folder: Path) -> object:
        found = Candidate.load(folder, "0")
        return found.to_dict(), found.distributions["y"].tobytes()

    check(tmp_path / "trials", content, 150, tmp_path, seed=9)


def test_generated_changes_of_json_are_changes() -> None:
    """A generator that changes nothing would test nothing."""
    values = {"a": [1, 2], "b": {"c": "text"}}
    changed = [mutated(values, np.random.default_rng(case)) for case in range(200)]
    assert sum(one != values for one in changed) > 180


def test_a_replaced_file_leaves_its_hard_link_alone(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_text("whole")
    replace(copy_linked(tmp_path / "a", tmp_path / "b") / "x", b"other")
    assert (tmp_path / "a" / "x").read_text() == "whole"
