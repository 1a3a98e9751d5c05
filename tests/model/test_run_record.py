"""The record of a run is written as JSON and read back to an equal one, whatever made it."""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polymodal.core.errors import ArtifactError
from polymodal.data.leakage import SharedItems
from polymodal.datasets.planted import make_exclusive_or
from polymodal.evaluation.data_sets import DataSetScores
from polymodal.evaluation.scores import Score
from polymodal.model.model import Model
from polymodal.model.run_record import (
    FILE,
    CellErrorCounts,
    ColumnRole,
    ComputeRecord,
    Durations,
    Environment,
    ParameterCounts,
    PseudoLabelRecord,
    PseudoLabelRound,
    RunRecord,
    SplitRecord,
    TeacherRecord,
)
from polymodal.model.run_summary import pseudo_label_sentence
from polymodal.training.records import Epoch, SourceModelRecord
from polymodal.tuning.tune import tune
from polymodal.workflows.fit import fit, pretrain

TRAINING = {"epochs": 2, "batch_size": 16, "num_threads": 1, "precision": "fp32"}
RECIPE: dict[str, Any] = {
    "inputs": {side: {"columns": [f"{side}{i}" for i in range(4)], "modality": "number"} for side in "ab"},
    "outputs": {"target": "classification"},
    "hidden_size": 16,
    "training": TRAINING,
    "evaluation": {"bootstrap_samples": 20, "unimodal_scores": "none"},
}

words, counts = st.text(max_size=8), st.integers(0, 2**40)
floats = st.floats(allow_nan=False, allow_infinity=False)
finite = st.none() | floats
losses = st.dictionaries(words, finite, max_size=3)
names = st.lists(words, max_size=3).map(tuple)
epochs = st.lists(st.builds(Epoch, counts, counts, losses, losses, losses, st.booleans()), max_size=3).map(tuple)
by_class = st.dictionaries(words, counts, max_size=3)
label_rounds = st.builds(
    PseudoLabelRound,
    counts,
    counts,
    by_class,
    counts,
    finite,
    finite,
    finite,
    finite,
    words,
    st.none() | losses,
    finite,
)
scores = st.builds(Score, value=finite, low=finite, high=finite, baseline=finite, greater_is_better=st.booleans())
data_set_scores = st.builds(DataSetScores, counts, st.dictionaries(words, scores, max_size=2))
shared = st.builds(SharedItems, words, st.tuples(words, words), counts, counts)
records = st.builds(
    RunRecord,
    environment=st.none() | st.builds(Environment, words, words, words, words),
    roles=st.lists(st.builds(ColumnRole, words, words, words, words, words), max_size=3).map(tuple),
    splits=st.dictionaries(words, st.builds(SplitRecord, words, counts), max_size=3),
    fingerprints=st.dictionaries(words, words, max_size=3),
    inputs=st.dictionaries(words, words, max_size=3),
    parameters=st.builds(ParameterCounts, counts, counts),
    seconds=st.builds(Durations, floats, floats, floats),
    compute=st.none() | st.builds(ComputeRecord, words, counts, words),
    steps=counts,
    rows_per_second=floats,
    averaged_epochs=st.lists(counts, max_size=3).map(tuple),
    annealed_from=counts,
    single_input=words,
    history=epochs,
    notices=names,
    teacher=st.none() | st.builds(TeacherRecord, st.none() | words, names, epochs),
    source_model=st.none() | st.builds(SourceModelRecord, words, words, names, names),
    pseudo_labels=st.none()
    | st.builds(PseudoLabelRecord, words, counts, floats, counts, st.lists(label_rounds, max_size=2).map(tuple)),
    task_notes=st.dictionaries(words, names, max_size=3),
    shared_items=st.lists(st.builds(SharedItems, words, st.tuples(words, words), counts, counts), max_size=2).map(
        tuple
    ),
    cell_errors=st.builds(CellErrorCounts, counts, st.dictionaries(words, counts, max_size=3)),
    data_sets=st.dictionaries(
        words,
        st.dictionaries(words, st.dictionaries(words, data_set_scores, max_size=2), max_size=2),
        max_size=2,
    ),
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYMODAL_CACHE", str(tmp_path / "cache"))


def read_back(record: RunRecord) -> RunRecord:
    with tempfile.TemporaryDirectory() as folder:
        record.write(Path(folder))
        return RunRecord.read(Path(folder))


@settings(deadline=None, max_examples=50)
@given(records)
def test_any_record_is_read_back_as_it_was(record: RunRecord) -> None:
    assert read_back(record) == record


def changed(**training: Any) -> dict[str, Any]:
    return RECIPE | {"training": TRAINING | training}


def test_records_of_runs_are_read_back(tmp_path: Path) -> None:
    """Those of a run on several data sets, of pretraining and going on from it, and of both ways to be taught."""
    table, few = make_exclusive_or(120, seed=0), make_exclusive_or(60, seed=1)
    several = fit({"one": table, "two": few}, recipe=RECIPE, out=tmp_path / "several")
    assert {name for outputs in several.run.data_sets.values() for name in outputs["target"]} == {"one", "two"}
    first = pretrain(table, "contrastive", recipe=RECIPE, out=tmp_path / "first")
    assert first.run.history
    later = fit(few, recipe=changed(epochs=1), init_from=tmp_path / "first", out=tmp_path / "later")
    assert later.run.source_model is not None
    taught = fit(few, recipe=changed(distillation={"teacher": str(tmp_path / "several")}), out=tmp_path / "taught")
    assert taught.run.teacher == TeacherRecord(model=str(tmp_path / "several"))
    privileged = RECIPE | {"inputs": {**RECIPE["inputs"], "b": {**RECIPE["inputs"]["b"], "privileged": True}}}
    shown = fit(table, recipe=privileged, out=tmp_path / "shown")
    assert shown.run.teacher is not None
    assert len(shown.run.teacher.history) == 2
    gaps = table | {"target": [cell if row % 2 else None for row, cell in enumerate(table["target"])]}
    labelled = fit(gaps, recipe=changed(pseudo_labels={"rounds": 1}), out=tmp_path / "labelled")
    assert labelled.run.pseudo_labels is not None
    for model in (several, first, later, taught, shown, labelled):
        assert model.run.environment == Environment.current()
        assert read_back(model.run) == model.run
    for name, model in (("several", several), ("labelled", labelled)):
        assert Model.load(tmp_path / name).run == model.run
        assert isinstance(json.loads((tmp_path / name / FILE).read_text())["history"], list)


def test_the_record_of_a_search_is_read_back(tmp_path: Path) -> None:
    space = {"fusion": ["late", "concat"]}
    found = tune(
        make_exclusive_or(80, seed=0),
        recipe=RECIPE,
        space=space,
        folds=2,
        trials=2,
        time_limit=None,
        out=tmp_path / "search",
    )
    assert found.model.run.splits
    assert read_back(found.model.run) == found.model.run


def test_a_model_that_never_ran_has_an_empty_record(tmp_path: Path) -> None:
    assert read_back(RunRecord()) == RunRecord()
    with pytest.raises(ArtifactError, match="cannot be read"):
        RunRecord.read(tmp_path)


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ({"histroy": []}, "histroy: there is no such key"),
        ({"seconds": {"sleep": 1.0}}, "seconds.sleep: there is no such key"),
        ({"splits": {"train": {"table": "t", "rows": "many"}}}, "splits.train.rows"),
        ([], "the whole file"),
    ],
    ids=["unknown", "unknown inside", "of another type", "no record"],
)
def test_a_file_that_says_something_else_is_refused(written: Any, key: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(json.dumps(written))
    with pytest.raises(ArtifactError, match=key) as told:
        RunRecord.read(tmp_path)
    assert str(tmp_path / FILE) in str(told.value)


def test_what_is_not_finite_is_none() -> None:
    epoch = Epoch(1, 2, {"y": math.nan}, {"y.r2": -math.inf}, {"y": 0.5}, True)
    assert (epoch.loss, epoch.validation, epoch.validation_loss) == ({"y": None}, {"y.r2": None}, {"y": 0.5})


def test_pseudo_labels_in_words() -> None:
    first = PseudoLabelRound(0, validation={"y.accuracy": 0.5}, validation_score=0.5)
    none = PseudoLabelRecord("y", 9, 0.95, 0, (first, PseudoLabelRound(1, reason="no label")))
    assert pseudo_label_sentence(none).endswith("not used: no label")
    later = PseudoLabelRound(1, 3, {"a": 3}, 3, 1.0, 0.875, 0.95, 0.9, None, {"y.accuracy": 0.75}, 0.75)
    said = pseudo_label_sentence(PseudoLabelRecord("y", 9, 0.95, 1, (first, later)))
    assert "round 1 is selected; 3 of 9 unlabeled rows" in said
    assert "probability of at least 0.875; precision on validation rows 95.0%, lower bound 90.0%" in said
    assert said.endswith("y.accuracy on validation rows: 0.5 without, 0.75 with")
