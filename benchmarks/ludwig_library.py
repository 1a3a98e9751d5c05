"""Ludwig on the same rows."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.library import TRIAL_ROWS, add, better_threads, run_other, run_ours, write_rows
from benchmarks.record import Record
from benchmarks.vqa import prepared_vqa


def run(smallest: bool) -> Record:
    """Rows per second, and accuracy after the same number of epochs."""
    record = Record(
        name="ludwig_library",
        title="Ludwig on easy-VQA",
        method=(
            "The same rows for the same number of epochs and batch 256. Ludwig: its convolutional encoder "
            "(strided stem, six convolutions, batch norm), its embedding encoder for the question, and its concat "
            "combiner, with about as many parameters as the network of the demo. Images are decoded and Ludwig's "
            "preprocessing is done before the clock starts. Rates cover only the training steps, with the faster of "
            "one thread and all threads in a short run before. Ludwig runs with the Python parts of an earlier "
            "torchvision, because none of its builds for this version of torch could be installed without CUDA. "
            "Accuracy is on the official test split at equal epochs, reported with the seconds of training; the "
            "longer run of Polymodal shows the accuracy after more epochs."
        ),
        unit="rows/s",
        larger_is_better=True,
    )
    epochs, rows = (1, 300) if smallest else (1, 10**9)
    with prepared_vqa(smallest) as vqa, TemporaryDirectory() as folder:
        file = Path(folder) / "rows.json"
        write_rows(vqa, file)
        threads = None if smallest else better_threads("ludwig", "ludwig_run.py", file, 2, TRIAL_ROWS)
        add(record, "Polymodal", run_ours(vqa, epochs))
        add(record, "Ludwig", run_other("ludwig", "ludwig_run.py", file, epochs, rows, threads=threads))
        if not smallest:
            add(record, "Polymodal", run_ours(vqa, epochs))
            add(record, f"Polymodal, {8 * epochs} epochs", run_ours(vqa, 8 * epochs))
    record.compare("Polymodal", "Ludwig")
    record.facts["epochs"] = epochs
    return record
