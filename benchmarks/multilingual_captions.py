"""One model for six languages: captions of Tux Paint stamps, with the language as a prompt.

The baseline is the caption of the nearest training image (in frozen features) in the requested language.

    python -m benchmarks.multilingual_captions FOLDER      # FOLDER: the unpacked package, or where to unpack it
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from benchmarks.captioning import OURS, examples, fold, report, stamp_captions, train_and_caption
from benchmarks.record import Record, run_study
from benchmarks.stamps import fetch
from polymodal.datasets.planted import Columns
from polymodal.metrics.text import text_metrics

#: Languages, and the prefix of their lines in the text file of a stamp; English is the first line.
LANGUAGES = {"English": "", "Russian": "ru", "French": "fr", "German": "de", "Spanish": "es", "Chinese": "zh_CN"}
SETTINGS = ["training.epochs=12", "training.batch_size=32", "training.learning_rate=1e-3", "hidden_size=128"]


def captions(stamps: Path) -> Columns:
    """Columns `image`, `language`, `caption` and `english`; one row per stamp and language."""
    english = stamp_captions(stamps)
    columns: Columns = {"image": [], "language": [], "caption": [], "english": []}
    for image, first in zip(english["image"], english["caption"], strict=True):
        lines = (stamps / image).with_suffix(".txt").read_text("utf-8").splitlines()[1:]
        captions_by_code = dict(line.split(".utf8=", 1) for line in lines if ".utf8=" in line)
        for language, code in LANGUAGES.items():
            text = captions_by_code.get(code, "").strip() if code else first
            if text:
                for name, cell in zip(columns, (image, language, text, first), strict=True):
                    columns[name].append(cell)
    return columns


def measure(folder: Path) -> Record:
    """Train once on all languages, and score each language."""
    stamps = fetch(folder / "stamps")
    parts = fold(captions(stamps), 0, "english")
    captioned = train_and_caption("caption_multilingual", parts, settings=SETTINGS, root=stamps, same="language")
    record = Record(
        name="multilingual_captions",
        title="Captions in six languages by one model, against the nearest image's caption in that language",
        method="Stamps of Tux Paint with their captions; all languages of a stamp, and all stamps with the same "
        "English caption, are in one part. Frozen EfficientNet-lite0 features of 7 x 7 regions, the name of the "
        "language as prompt, byte-pair tokens trained on all languages. chrF2; for Chinese also BLEU with its "
        "tokenizer. Intervals and paired differences by a bootstrap of rows.",
        unit="chrF2",
        larger_is_better=True,
    )
    languages = np.array(captioned.cells["language"])
    for language in LANGUAGES:
        rows = captioned.rows(np.flatnonzero(languages == language))
        names = ["chrf", "bleu_zh"] if language == "Chinese" else ["chrf"]
        report(record, rows, text_metrics(names), language)
        record.facts[f"{language}: examples"] = examples(rows, 3)
    stamp = np.unique(captioned.cells["image"], return_inverse=True)[1]
    report(record, captioned, text_metrics(["chrf"]), "all languages", groups=stamp)
    record.facts["rows"] = {name: len(part["image"]) for name, part in parts.items()}
    record.facts["generated in another script than requested"] = _wrong_script(captioned.texts[OURS], languages)
    return record


def _wrong_script(texts: np.ndarray, languages: np.ndarray) -> str:
    """Number of texts without a letter of the script of their language."""
    scripts = {"Russian": ("\u0400", "\u04ff"), "Chinese": ("\u4e00", "\u9fff")}
    wrong = 0
    for text, language in zip(texts, languages, strict=True):
        low, high = scripts.get(str(language), ("A", "\u024f"))
        wrong += not any(low <= letter <= high for letter in text or "")
    return f"{wrong} of {len(texts)}"


if __name__ == "__main__":
    run_study(measure, Path(sys.argv[1]))
