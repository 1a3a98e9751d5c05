"""Each benchmark runs in its smallest size, compares its contestants, and appears on the results pages."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path

import pytest

pytest.importorskip("easy_vqa", reason="the benchmarks use easy-VQA")

from benchmarks.__main__ import main
from benchmarks.environments import MissingEnvironment, python_of
from benchmarks.measure import interleaved, used_by_others
from benchmarks.record import RECORDS, Record, read_records
from benchmarks.report import FOLDER, pages
from benchmarks.report_topics import SUMMARIZED, SUMMARIZED_RATIOS, TOPICS

from benchmarks import BENCHMARKS, STUDIES
from polymodal.pretrained.starter.registry import location

IN_ENVIRONMENTS = ("log_mel", "transformers_trainer", "language_model_training", "ludwig_library")
OWN = [name for name in BENCHMARKS if name not in IN_ENVIRONMENTS]
LINUX_ONLY = ("memory",)
STARTERS_OF = {"feature_cache": ("minilm", "efficientnet-lite0"), "last_layers": ("minilm",)}


@pytest.mark.parametrize("name", OWN)
def test_benchmark_runs_and_its_record_reads_back(name: str, tmp_path: Path) -> None:
    if name in LINUX_ONLY and sys.platform != "linux":
        pytest.skip("peak memory is read from /proc")
    if any(location(starter) is None for starter in STARTERS_OF.get(name, ())):
        pytest.skip("starter weights are not installed (extra starter)")
    main([name, "--smallest", "--records", str(tmp_path)])
    (record,) = read_records(tmp_path)
    assert record.name == name
    assert record.smallest
    assert record.ratios
    assert all(value > 0 and math.isfinite(value) for values in record.values.values() for value in values)
    for ratio in record.ratios:
        assert {ratio.ours, ratio.reference} <= set(record.values)
    assert all(record.title in text for text in pages([record]).values())


def test_loops_do_the_same_work() -> None:
    """The trainer and the hand-written loops process every training row once per epoch."""
    from benchmarks.hand_loop import one_image_per_row, shared_images
    from benchmarks.vqa import in_memory, prepared_vqa

    with prepared_vqa(smallest=True) as vqa:
        data = in_memory(vqa, "train")
        batches = vqa.experiment.splits["train"].rows
        for loop in (one_image_per_row, shared_images):
            seen = []
            for batch, target in loop(data, 64):
                seen += batch.rows.tolist()
                image = batch.inputs["image"]
                pixels = image.data["pixels"][image.index]
                assert (pixels == data.images[data.image[batch.rows]]).all()
                assert (target == data.target[batch.rows]).all()
            assert sorted(seen) == list(range(len(batches)))


def test_contestants_alternate_and_warm_rounds_are_dropped() -> None:
    called: list[str] = []

    def run(name: str) -> float:
        called.append(name)
        return float(len(called))

    record = Record("n", "t", "m", "u", True)
    interleaved(record, {"a": lambda: run("a"), "b": lambda: run("b")}, 2, warm=1)
    assert called == ["a", "b"] * (3 + record.repeated)
    assert record.values["a"][-1] == len(called) - 1
    assert record.values["b"][-1] == len(called)
    assert [len(values) for values in record.values.values()] == [2, 2]


def test_fraction_of_other_programs() -> None:
    assert used_by_others((0.0, 5.0, 1.0), (2.0, 9.0, 1.0 + 4.0)) == 0
    cores = os.cpu_count() or 1
    assert used_by_others((0.0, 5.0, 1.0), (2.0, 9.0, 1.0 + 3.0)) == pytest.approx(0.5 / cores)


def test_ratio_is_above_one_if_polymodal_is_better() -> None:
    for larger, ours, reference in ((True, 20.0, 10.0), (False, 10.0, 20.0)):
        record = Record("n", "t", "m", "u", larger, {"ours": [ours], "reference": [reference]})
        record.compare("ours", "reference", target=1.5)
        assert record.ratios[0].value == 2


def test_unknown_benchmark_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["trainng_loop"])
    assert "'trainng_loop'" in capsys.readouterr().err


def test_missing_environment_error_has_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("POLYMODAL_BENCHMARK_ENVIRONMENTS", str(tmp_path))
    with pytest.raises(MissingEnvironment, match=r"python -m benchmarks\.environments ludwig"):
        python_of("ludwig")


def test_committed_records_are_full_size_and_of_known_benchmarks() -> None:
    for record in read_records(RECORDS):
        assert not record.smallest
        assert all(record.title in text for text in pages([record]).values())


def test_every_record_has_one_topic() -> None:
    names = [name for topic in TOPICS for name in topic.records]
    assert sorted(names) == sorted([*BENCHMARKS, *STUDIES])
    assert {*SUMMARIZED, *SUMMARIZED_RATIOS} <= set(names)


def test_the_results_pages_match_the_committed_records() -> None:
    for path, text in pages(read_records(RECORDS)).items():
        assert (FOLDER / path).read_text(encoding="utf-8") == text, (
            f"run `python -m benchmarks.report`: {path} is outdated"
        )
