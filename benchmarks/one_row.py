"""One row: how long a single prediction takes."""

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
    """Milliseconds from a row to its answer."""
    record = Record(
        name="one_row",
        title="Predicting one row",
        method=(
            "A dict of a path and a question in, the answer out, the median over calls in a row. The reference opens "
            "the file with Pillow, calls the tokenizer and the same network by hand; it checks nothing. One thread."
        ),
        unit="ms",
        larger_is_better=False,
    )
    calls = 5 if smallest else 200
    with prepared_vqa(smallest) as vqa:
        row = vqa.tables["test"].slice(0, 1).to_pylist()[0]
        del row["answer"]
        file, tokenise, network = str(vqa.root / row["image"]), tokenizer(vqa), vqa.network().eval()
        models = {precision: vqa.model(ComputeConfig(precision, 1)) for precision in ("fp32", "bf16")}

        def ours(precision: str) -> float:
            return typical(lambda: models[precision].predict(row, root=vqa.root), calls)

        def by_hand() -> float:
            def answer() -> None:
                with torch.inference_mode():
                    batch = hand_loop.one_batch(hand_loop.read_pixels(file).unsqueeze(0), tokenise([row["question"]]))
                    network(batch)["answer"].values.argmax(1).tolist()

            with ComputeConfig("fp32", 1).active():
                return typical(answer, calls)

        contestants = {
            "Polymodal (fp32)": lambda: ours("fp32"),
            "Polymodal (bf16)": lambda: ours("bf16"),
            "by hand (fp32)": by_hand,
        }
        interleaved(record, contestants, 1 if smallest else 5)
        record.compare("Polymodal (fp32)", "by hand (fp32)")
        record.facts = {"calls in a round": calls}
    return record


def typical(call: Callable[[], object], times: int) -> float:
    """The median milliseconds of a call."""
    spent = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        spent.append(time.perf_counter() - start)
    return statistics.median(spent) * 1e3
