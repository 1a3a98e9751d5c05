"""Precision and threads: chosen by what the processor has, measured once for each processor, and recorded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from clocks import Clocks
from laws.checkpoints import checkpoint
from laws.samples import experiment, sample_table, trained
from polymodal import fit, load
from polymodal.checkpoint.training_state_file import write_checkpoint
from polymodal.core.checksum import read_signed, sign
from polymodal.core.errors import PolymodalWarning
from polymodal.core.paths import CacheWarning
from polymodal.datasets import make_exclusive_or
from polymodal.model.make_network import make_network
from polymodal.recipe.training import TrainingOptions
from polymodal.runtime.autotune import autotune, fastest
from polymodal.runtime.autotune_store import keep_choice, read_choice
from polymodal.runtime.compute import NO_BF16, ComputeConfig
from polymodal.runtime.cpu_kernels import processor_name, supports_bf16
from polymodal.runtime.thread_tuner import ThreadTuner
from polymodal.training.trainer import Trainer
from processors import can_limit, run_limited

OPTIONS = TrainingOptions(precision="fp32")
pytestmark = pytest.mark.usefixtures("quiet_machine")
SETTINGS = ["training.device=cpu", "evaluation.bootstrap_samples=0", "evaluation.unimodal_scores=none"]
MEASURE = """
import sys
from pathlib import Path
from torch import nn
from polymodal.recipe.training import TrainingOptions
import itertools
from polymodal.runtime import autotune as module
from polymodal.runtime.autotune import autotune
ticks = itertools.count()
module.clocks = lambda: (next(ticks),) * 2
module.max_threads = lambda: 2
module.TRIAL_SECONDS = 10**6
for _ in range(2):
    steps = []
    autotune(TrainingOptions(precision="fp32"), nn.Linear(8, 8), steps.append, Path(sys.argv[1]))
    print(len(steps))
"""


def measured_steps(memory: Path) -> int:
    steps: list[object] = []
    autotune(OPTIONS, nn.Linear(8, 8), steps.append, memory)
    return len(steps)


@pytest.mark.skipif(not can_limit("AVX2"), reason="this processor has no more than AVX2")
def test_a_choice_of_another_processor_is_not_taken_over(tmp_path: Path) -> None:
    """Two machines with one home directory measure apart, and each only once."""
    assert measured_steps(tmp_path) > 0
    assert measured_steps(tmp_path) == 0
    first, second = map(int, run_limited("AVX2", ["-c", MEASURE, str(tmp_path)]).split())
    assert first > 0
    assert second == 0
    assert measured_steps(tmp_path) == 0
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("damage", [None, b"\n", b"{", b"[1]", b"\xff\xfe", b'{"precision": "bf16", "threads": 2}'])
def test_a_damaged_choice_is_measured_again_with_a_warning(damage: bytes | None, tmp_path: Path) -> None:
    measured_steps(tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(damage or path.read_bytes().replace(b'"threads": ', b'"threads": 1'))
    with pytest.warns(CacheWarning, match=f"{path} in the cache is damaged"):
        assert measured_steps(tmp_path) > 0
    assert measured_steps(tmp_path) == 0
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("change", [{"threads": 10**6}, {"precision": "fp64"}, {"device": "tpu"}, {"more": 1}])
def test_a_stored_choice_that_is_no_candidate_is_not_used(change: dict[str, object], tmp_path: Path) -> None:
    measured_steps(tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_text(json.dumps(sign((read_signed(path) or {}) | change)))
    assert measured_steps(tmp_path) > 0


def test_the_first_of_two_choices_stays(tmp_path: Path) -> None:
    keep_choice(tmp_path, "key", {"threads": 1})
    keep_choice(tmp_path, "key", {"threads": 2})
    assert read_choice(tmp_path, "key") == {"threads": 1}
    assert len(list(tmp_path.iterdir())) == 1


def test_bf16_is_tried_only_with_bf16_instructions(tmp_path: Path) -> None:
    formats = set()

    def step(network: nn.Module) -> None:
        formats.add(torch.is_autocast_enabled("cpu"))

    chosen = autotune(TrainingOptions(), nn.Linear(8, 8), step, tmp_path)
    assert formats == ({False, True} if supports_bf16() else {False})
    assert chosen.precision in (("fp32", "bf16") if supports_bf16() else ("fp32",))
    assert "measured on 20" in chosen.reason


@pytest.mark.parametrize("threads", [1, "auto"])
def test_bf16_of_the_recipe_is_used_or_named(threads: int | str) -> None:
    options = TrainingOptions(precision="bf16", num_threads=threads)  # type: ignore[arg-type]
    chosen = autotune(options, nn.Linear(8, 8), lambda network: None, None)
    if supports_bf16():
        assert chosen.precision == "bf16"
        assert NO_BF16 not in chosen.reason
    else:
        assert chosen.precision == "fp32"
        assert chosen.reason.endswith(NO_BF16)


def test_the_record_says_in_which_format_a_recipe_with_bf16_was_computed(tmp_path: Path) -> None:
    settings = [*SETTINGS, "training.epochs=1", "training.precision=bf16", "training.num_threads=1"]
    model = fit(make_exclusive_or(40, seed=0), "target", settings=settings, out=tmp_path / "run")
    used = "bf16" if supports_bf16() else "fp32"
    assert model.run.compute is not None
    assert model.run.compute.precision == model.recipe.training.precision == model.compute.precision == used
    assert any(NO_BF16 in notice for notice in model.run.notices) == (used == "fp32")
    assert model.run.environment is not None
    assert model.run.environment.processor == processor_name()


def test_a_model_trained_in_bf16_predicts_on_every_processor(tmp_path: Path) -> None:
    """Also with an LSTM, for which oneDNN has no bf16 kernel without AVX-512."""
    columns = {"text": ["one two three", "four five"] * 20, "target": ["a", "b"] * 20}
    settings = [
        *SETTINGS,
        "training.epochs=1",
        "training.precision=fp32",
        "inputs.text={modality: text, encoder: lstm}",
    ]
    model = fit(columns, "target", settings=settings)
    training = model.recipe.training.model_copy(update={"precision": "bf16"})
    exact = model.predict_proba(columns)
    model.recipe = model.recipe.model_copy(update={"training": training})
    model.save(tmp_path)
    if supports_bf16():
        found = load(tmp_path)
    else:
        with pytest.warns(PolymodalWarning, match="trained in bf16, and this processor has no bf16 instructions"):
            found = load(tmp_path)
    assert abs(found.predict_proba(columns) - exact).max() < 0.05


def test_the_record_has_the_format_of_stored_features(tmp_path: Path) -> None:
    encoder = {"name": "pretrained_text", "checkpoint": checkpoint("text")}
    columns, recipe = sample_table(["text"], ["classification"])
    recipe["inputs"]["in_text"] |= {"modality": "text", "encoder": encoder}
    formats = []
    for number, cached in enumerate((True, False)):
        training = {"epochs": 1, "feature_cache": {"enabled": cached}}
        parts = dict.fromkeys(("train", "validation"), columns)
        model = trained(parts, tmp_path / str(number), training=training, **recipe)
        assert model.run.compute is not None
        formats.append(model.run.compute.features)
    assert formats == ["bf16" if supports_bf16() else "fp32", ""]


def test_a_run_in_bf16_goes_on_in_what_the_processor_has(tmp_path: Path) -> None:
    """A checkpoint of another machine: without bf16 instructions the run goes on in fp32, with a notice."""
    columns, recipe = sample_table(["number"], ["regression"])
    parts = dict.fromkeys(("train", "validation"), columns)
    prepared = experiment(parts, tmp_path / "prepared", training={"epochs": 2}, **recipe)
    network = make_network(prepared.recipe, prepared.preparation)
    trainer = Trainer(prepared.recipe, network, prepared.preparation, prepared.splits, folder=tmp_path)
    state = trainer.state_dict()
    state.metadata["compute"] = {"precision": "bf16", "threads": 1, "reason": "set by the recipe", "device": "cpu"}
    write_checkpoint(tmp_path / "checkpoint.safetensors", state)
    history = trainer.run(resume=True)
    assert trainer.compute.precision == ("bf16" if supports_bf16() else "fp32")
    assert any(NO_BF16 in notice for notice in history.notices) != supports_bf16()


def choose(clocks: Clocks, seconds: dict[tuple[bool, int], tuple[float, float]], memory: Path) -> ComputeConfig:
    """The choice if a step in (bf16, threads) takes these seconds of wall time and of processor time."""

    def step(network: nn.Module) -> None:
        clocks.work(*seconds[torch.is_autocast_enabled("cpu"), torch.get_num_threads()])

    return autotune(TrainingOptions(), nn.Linear(8, 8), step, memory)


QUIET = {(False, 1): (0.10, 0.10), (False, 2): (0.06, 0.12), (True, 1): (0.09, 0.09), (True, 2): (0.07, 0.14)}
#: Two threads seem to be faster, because the other programs leave a processor free at times.
LOADED = {(False, 1): (0.30, 0.10), (False, 2): (0.06, 0.12), (True, 1): (0.30, 0.05), (True, 2): (0.07, 0.07)}


def test_more_threads_are_chosen_where_they_pay_and_remembered(quiet_machine: Clocks, tmp_path: Path) -> None:
    chosen = choose(quiet_machine, QUIET, tmp_path)
    assert (chosen.precision, chosen.threads) == ("fp32", 2)
    assert choose(quiet_machine, dict.fromkeys(QUIET, (0.0, 0.0)), tmp_path) == chosen


def test_a_timing_under_load_is_not_remembered_and_chooses_by_processor_time(
    quiet_machine: Clocks, tmp_path: Path
) -> None:
    loaded = choose(quiet_machine, LOADED, tmp_path)
    assert loaded.threads == 1
    assert loaded.precision == ("bf16" if supports_bf16() else "fp32")
    assert "other programs used the processors" in loaded.reason
    assert not list(tmp_path.iterdir())
    assert choose(quiet_machine, QUIET, tmp_path).threads == 2


def test_a_trial_with_slow_steps_ends_after_one_of_each(quiet_machine: Clocks, tmp_path: Path) -> None:
    steps = []

    def step(network: nn.Module) -> None:
        steps.append(torch.get_num_threads())
        quiet_machine.work(40.0 if steps[-1] == 1 else 15.0)

    assert autotune(OPTIONS, nn.Linear(8, 8), step, tmp_path).threads == 2
    assert steps == [1, 2]


def test_a_candidate_must_be_faster_in_most_rounds() -> None:
    assert fastest([[1.0] * 4, [0.8, 0.8, 0.8, 3.0]]) == 1
    assert fastest([[1.0] * 5, [0.8, 3.0, 0.8, 3.0, 0.8]]) == 0
    assert fastest([[1.0] * 4, [0.95] * 4]) == 0
    assert fastest([[1.0] * 4, [0.7] * 4, [0.5] * 4]) == 2


@pytest.mark.parametrize(("limit", "threads"), [("1", 1), ("2,1", 2), ("64", 4), ("0", 4), ("many", 4), ("", 4)])
def test_the_user_limits_the_threads(limit: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", limit)
    monkeypatch.setattr("polymodal.runtime.thread_limit.num_cores", lambda: 4)
    tried = set()
    autotune(OPTIONS, nn.Linear(8, 8), lambda network: tried.add(torch.get_num_threads()), None)
    assert tried == ({1, threads} if threads > 1 else set())
    assert ThreadTuner().choices == sorted({1, threads})
    assert ThreadTuner(3).choices == [min(3, threads) if limit in ("1", "2,1") else 3]
    fixed = autotune(TrainingOptions(precision="fp32", num_threads=3), nn.Linear(8, 8), lambda network: None, None)
    assert fixed.threads == ComputeConfig("fp32", 3).supported().threads == ThreadTuner(3).choices[0]
    assert (fixed.reason == "set by the recipe") == (fixed.threads == 3)
