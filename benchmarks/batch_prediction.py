"""Prediction: `Model.predict` from files against hand-written loops."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks import hand_loop
from benchmarks.measure import interleaved
from benchmarks.record import Record
from benchmarks.vqa import Vqa, in_memory, prepared_vqa
from polymodal.inference.batching import PREDICTION_BATCH_SIZE
from polymodal.runtime.compute import ComputeConfig


def run(smallest: bool) -> Record:
    """Rows per second for the test split."""
    record = Record(
        name="batch_prediction",
        title="Predicting the test split of easy-VQA",
        method=(
            "Polymodal: `Model.predict` on a table of paths and questions; opening, decoding, tokenizing and "
            "looking up the answers are included, nothing is cached. The 'in memory' loops have decoded images and "
            "tokenized questions in memory before the clock starts. The loop from files opens an image for every row, "
            "as a data set class does. Same network, same batch size."
        ),
        unit="rows/s",
        larger_is_better=True,
    )
    with prepared_vqa(smallest) as vqa:
        cores = len(os.sched_getaffinity(0))
        data, table = in_memory(vqa, "test"), vqa.tables["test"]
        network, tokenize = vqa.network(), tokenizer(vqa)
        files = [str(vqa.root / path) for path in table["image"].to_pylist()]
        questions = table["question"].to_pylist()

        def ours(compute: ComputeConfig) -> float:
            model = vqa.model(compute)
            start = time.perf_counter()
            return len(model.predict(table, root=vqa.root)) / (time.perf_counter() - start)

        def memory(compute: ComputeConfig) -> float:
            return hand_loop.predict(network, data, PREDICTION_BATCH_SIZE, compute)

        def from_files() -> float:
            with ComputeConfig("fp32", 1).active():
                return hand_loop.predict_files(network, files, questions, tokenize, PREDICTION_BATCH_SIZE)

        contestants = {
            "Polymodal from files (fp32, 1 thread)": lambda: ours(ComputeConfig("fp32", 1)),
            "Polymodal from files (bf16, 1 thread)": lambda: ours(ComputeConfig("bf16", 1)),
            f"Polymodal from files (bf16, {cores} threads)": lambda: ours(ComputeConfig("bf16", cores)),
            "loop in memory (fp32, 1 thread)": lambda: memory(ComputeConfig("fp32", 1)),
            "loop in memory (bf16, 1 thread)": lambda: memory(ComputeConfig("bf16", 1)),
            "loop from files (fp32, 1 thread)": from_files,
        }
        interleaved(record, contestants, 1 if smallest else 5)
        names = list(record.values)
        record.compare(names[0], names[3])
        record.compare(names[1], names[4])
        record.compare(names[0], names[5])
        record.facts = {"rows": len(table), "images": len(data.images), "batch": PREDICTION_BATCH_SIZE}
    return record


def tokenizer(vqa: Vqa) -> Callable[[list[str]], Tensor]:
    """Questions to token ids with the fitted tokenizer, called directly."""
    fitted = vqa.experiment.preparation.modalities["question"].tokenizer  # type: ignore[attr-defined]

    def tokenize(texts: list[str]) -> Tensor:
        sequences = [torch.tensor(encoding.ids) for encoding in fitted.encode_batch(texts)]
        return torch.nn.utils.rnn.pad_sequence(sequences, batch_first=True)

    return tokenize
