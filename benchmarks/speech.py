"""Speech recognition from scratch on 540 spoken prompts: CTC, and CTC with attention.

`python -m benchmarks.speech FOLDER`: FOLDER has the unpacked packages of the prompts, or is where to unpack them.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import polymodal
from benchmarks.record import Record, run_study
from benchmarks.spoken_prompts import fetch, table
from polymodal.metrics.text.word_tokenization import normalize_spoken

RECIPES = ("speech_ctc", "speech_attention")
SETTINGS = [
    "inputs.sound.modality.sampling_rate=8000",
    "data.split.group_column=text",
    "data.split.test_size=0.26",
    "data.split.validation_size=0.07",
    "training.epochs=45",
    "training.early_stopping_patience=45",
    "training.batch_size=8",
    "training.learning_rate=0.002",
]


def measure(folder: Path) -> Record:
    """Train both recipes on the same rows, and score each on the same unseen texts."""
    columns = table(fetch(folder.resolve()))
    columns["text"] = [normalize_spoken(text) for text in columns["text"]]
    record = Record(
        name="speech",
        title="Speech recognition from scratch: 24 minutes of spoken prompts",
        method="540 prompts of one speaker at 8 kHz; about 140 with texts that occur in no other part are the test. "
        "Texts in lower case without punctuation, with letters as tokens; with 500 subword tokens, a learning "
        "rate of .001 and batches of 16, the error rates were 1.16 and .99 on these test rows. Word error rate of "
        "the corpus with its bootstrap interval; the baseline is the most frequent training text. Whisper on "
        "similar rows: benchmarks/whisper.py.",
        unit="word error rate",
        larger_is_better=False,
    )
    for name in RECIPES:
        began = time.perf_counter()
        model = polymodal.fit(columns, "text", recipe=name, settings=SETTINGS, root=folder, progress=True)
        spent = time.perf_counter() - began
        scores = model.metrics["test"]["text"]
        record.values[name] = [scores["wer"]["value"]]
        for metric in ("wer", "cer"):
            one = scores[metric]
            record.facts[f"{name}, {metric}"] = (
                f"{one['value']:.3f} ({one['low']:.3f} to {one['high']:.3f}), baseline {one['baseline']:.3f}"
            )
        record.facts[f"{name}, seconds"] = round(spent)
        record.facts[f"{name}, epochs"] = len(model.run.history)
    record.facts["rows"] = {name: part.rows for name, part in model.run.splits.items()}
    return record


if __name__ == "__main__":
    run_study(measure, Path(sys.argv[1]))
