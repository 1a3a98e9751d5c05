"""The Trainer of transformers on the same rows."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.library import TRIAL_ROWS, add, better_threads, run_other, run_ours, write_rows
from benchmarks.record import Record
from benchmarks.vqa import prepared_vqa


def run(smallest: bool) -> Record:
    """Rows per second, and accuracy after the same number of epochs."""
    record = Record(
        name="transformers_trainer",
        title="The Trainer of transformers on easy-VQA",
        method=(
            "The same rows for the same number of epochs, batch 256, AdamW at the same peak rate with a cosine "
            "schedule; the Trainer's network has the layers of the demo's network. 'Files': the data set decodes "
            "an image per sample with Pillow. 'In memory': pixels and tokens are tensors in memory, bf16, fused "
            "AdamW, channels-last. Rates cover only the training steps, without reading, preparing and scoring. The "
            "Trainer uses the faster of one thread and all threads in a short run before; Polymodal selects its "
            "configuration itself. Accuracy is on the official test split at equal epochs, reported with the seconds "
            "of training; the longer run of Polymodal shows the accuracy after more epochs."
        ),
        unit="rows/s",
        larger_is_better=True,
    )
    epochs, rows = (1, 300) if smallest else (1, 10**9)
    with prepared_vqa(smallest) as vqa, TemporaryDirectory() as folder:
        file = Path(folder) / "rows.json"
        write_rows(vqa, file)
        for variant in ("in memory", "files"):
            kind, threads = variant.split()[-1], None
            if not smallest:
                threads = better_threads("transformers", "trainer_run.py", file, kind, 2, TRIAL_ROWS)
            add(record, "Polymodal", run_ours(vqa, epochs))
            result = run_other("transformers", "trainer_run.py", file, kind, epochs, rows, threads=threads)
            add(record, f"Trainer, {variant}", result)
        if not smallest:
            add(record, f"Polymodal, {8 * epochs} epochs", run_ours(vqa, 8 * epochs))
    record.compare("Polymodal", "Trainer, in memory")
    record.compare("Polymodal", "Trainer, files")
    record.facts["epochs"] = epochs
    return record
