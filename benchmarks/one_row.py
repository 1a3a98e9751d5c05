"""Latency of the prediction of a single row."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from benchmarks import hand_loop
from benchmarks.batch_prediction import tokenizer
from benchmarks.measure import interleaved
from benchmarks.record import Record
from benchmarks.vqa import prepared_vqa
from polymodal.runtime.compute import ComputeConfig


def run(smallest: bool) -> Record:
    """Milliseconds from a row to its prediction."""
    record = Record(
        name="one_row",
        title="Predicting one row",
        method=(
            "From a dict of a path and a question to the answer, the median over consecutive calls. The reference "
            "opens the file with Pillow and calls the tokenizer and the same network directly, without checks. One "
            "thread."
        ),
        unit="ms",
        larger_is_better=False,
    )
    calls = 5 if smallest else 200
    with prepared_vqa(smallest) as vqa:
        row = vqa.tables["test"].slice(0, 1).to_pylist()[0]
        del row["answer"]
        file, tokenize, network = str(vqa.root / row["image"]), tokenizer(vqa), vqa.network().eval()
        models = {precision: vqa.model(ComputeConfig(precision, 1)) for precision in ("fp32", "bf16")}

        def ours(precision: str) -> float:
            return median_milliseconds(lambda: models[precision].predict(row, root=vqa.root), calls)

        def by_hand() -> float:
            def predict() -> None:
                with torch.inference_mode():
                    batch = hand_loop.one_batch(hand_loop.read_pixels(file).unsqueeze(0), tokenize([row["question"]]))
                    network(batch)["answer"].values.argmax(1).tolist()

            with ComputeConfig("fp32", 1).active():
                return median_milliseconds(predict, calls)

        contestants = {
            "Polymodal (fp32)": lambda: ours("fp32"),
            "Polymodal (bf16)": lambda: ours("bf16"),
            "by hand (fp32)": by_hand,
        }
        interleaved(record, contestants, 1 if smallest else 5)
        record.compare("Polymodal (fp32)", "by hand (fp32)")
        record.facts = {"calls in a round": calls}
    return record


def median_milliseconds(call: Callable[[], object], times: int) -> float:
    """The median milliseconds of a call."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds) * 1e3
