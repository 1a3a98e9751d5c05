"""English to Russian from the sentences of one manual: a Transformer from scratch against a word table.

The split is by page, so that neighboring sentences are in one part. Two baselines: the source text itself (names of
menus and files are often right), and each word replaced by its most likely translation, by IBM model 1 trained on the
same training rows.

    python -m benchmarks.translation FOLDER      # FOLDER: the unpacked packages, or where to unpack them
    python -m benchmarks.translation image       # with an image and the text, on synthetic sentences
"""

from __future__ import annotations

import re
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import Record, run_study
from benchmarks.translation_pairs import pairs
from polymodal.datasets.planted import Columns
from polymodal.datasets.translations import make_translations
from polymodal.evaluation.intervals import Resampling, bootstrap
from polymodal.evaluation.paired_bootstrap import paired_difference
from polymodal.metrics.text import text_metrics
from polymodal.workflows.fit import fit

SETTINGS = ["training.batch_size=32", "evaluation.bootstrap_samples=0", "seed=0"]
EPOCHS = 14
ITERATIONS = 8
OURS, TABLE, COPY = "Transformer", "word for word", "source copied"
_TOKEN = re.compile(r"\w+|[^\w\s]")


def split(columns: Columns) -> dict[str, Columns]:
    """Pages by a hash of their name: 80 % training, 8 % validation, 12 % test; in the columns of the recipe
    `translate`."""
    parts: dict[str, Columns] = {}
    for english, russian, page in zip(columns["en"], columns["ru"], columns["page"], strict=True):
        bucket = zlib.crc32(page.encode()) % 25
        part = parts.setdefault("test" if bucket < 3 else "validation" if bucket < 5 else "train", {})
        cells = {"source": english, "language": "Russian", "translation": russian, "page": page}
        for name, cell in cells.items():
            part.setdefault(name, []).append(cell)
    return parts


def word_table(sources: list[str], targets: list[str], iterations: int = ITERATIONS) -> dict[str, str]:
    """The most likely target word f of each source word e, by expectation maximization on sentence pairs:

        c(f, e) = sum over pairs and positions of t(f | e) / sum_e' t(f | e'),   t(f | e) = c(f, e) / sum_f' c(f', e)

    Each source sentence also has an empty word, for target words without a source word.

    Source: Brown et al., "The Mathematics of Statistical Machine Translation: Parameter Estimation", Computational
    Linguistics, 1993, model 1.
    """
    source_words: dict[str, int] = {"": 0}
    target_words: dict[str, int] = {}
    e, f, slots, slot = [], [], [], 0
    for source, target in zip(sources, targets, strict=True):
        ours = np.array([0, *(source_words.setdefault(word, len(source_words)) for word in _words(source))])
        theirs = [target_words.setdefault(word, len(target_words)) for word in _words(target)]
        for word in theirs:
            e.append(ours)
            f.append(np.full(len(ours), word))
            slots.append(np.full(len(ours), slot))
            slot += 1
    known, key = np.unique(np.concatenate(e) * len(target_words) + np.concatenate(f), return_inverse=True)
    position, source_of = np.concatenate(slots), known // len(target_words)
    t = np.ones(len(known))
    for _ in range(iterations):
        expected = t[key] / np.bincount(position, t[key])[position]
        counts = np.bincount(key, expected)
        t = counts / np.bincount(source_of, counts)[source_of]
    best: dict[int, int] = {}
    for at in np.argsort(t):
        best[int(source_of[at])] = int(known[at] % len(target_words))
    source_list, target_list = list(source_words), list(target_words)
    return {source_list[one]: target_list[other] for one, other in best.items() if one}


def word_for_word(table: dict[str, str], source: str) -> str:
    """Each word by the table, unknown words unchanged; the case of the first letter as in the source."""
    found = [table.get(token.lower(), token) for token in _TOKEN.findall(source)]
    text = re.sub(r" ([.,:;!?)»”])", r"\1", " ".join(found))
    return text[:1].upper() + text[1:] if source[:1].isupper() else text


def _words(text: str) -> list[str]:
    return [token.lower() for token in _TOKEN.findall(text)]


def measure(folder: Path) -> Record:
    """Train, translate the test pages, and compare."""
    parts = split(pairs(folder))
    train, test = parts["train"], parts["test"]
    model = fit(
        train,
        recipe="translate",
        settings=[*SETTINGS, f"training.epochs={EPOCHS}"],
        validation=parts["validation"],
        progress=True,
    )
    table = word_table(train["source"], train["translation"])
    inputs: dict[str, Any] = {name: test[name] for name in ("source", "language")}
    texts = {
        OURS: model.predict(inputs),
        TABLE: [word_for_word(table, source) for source in test["source"]],
        COPY: list(test["source"]),
    }
    record = Record(
        name="translation",
        title="English to Russian from one manual: a Transformer from scratch against a word table",
        method="Sentences of GIMP's manual in two languages, paired by position in pages of the same name; split by "
        "page. Recipe `translate`: two layers in encoder and decoder, byte-pair tokens trained on the training rows, "
        "greedy decoding. chrF2 and BLEU (13a) as in sacrebleu; intervals and paired differences by a bootstrap of "
        "whole pages.",
        unit="chrF2",
        larger_is_better=True,
    )
    truth = np.empty(len(test["source"]), dtype=object)
    truth[:] = [(text,) for text in test["translation"]]
    weight, pages = np.ones(len(truth)), np.unique(test["page"], return_inverse=True)[1]
    for metric in text_metrics(["chrf", "bleu"]):
        predictions = {name: np.array(cells, dtype=object) for name, cells in texts.items()}
        for name, cells in predictions.items():
            score = bootstrap(metric, cells, truth, weight, Resampling(groups=pages))
            record.facts[f"{metric.name}, {name}"] = f"{score.value:.2f} ({score.low:.2f} to {score.high:.2f})"
            if metric.name == "chrf":
                record.values[name] = [score.value]
        for name in (TABLE, COPY):
            found = paired_difference(
                metric, predictions[OURS], predictions[name], truth, weight, Resampling(groups=pages)
            )
            record.facts[f"{metric.name}, {OURS} minus {name}"] = (
                f"{found.value:+.2f} ({found.low:+.2f} to {found.high:+.2f}), p = {found.p_value:.2g}"
            )
    seen = set(train["source"])
    record.facts["rows"] = {name: len(part["source"]) for name, part in parts.items()}
    record.facts["test pages"] = len(set(test["page"]))
    record.facts["test sources that are also training sources"] = sum(source in seen for source in test["source"])
    record.facts["words in the table"] = len(table)
    record.facts["seconds of training"] = round(model.run.seconds.training)
    record.facts["epochs"] = len(model.run.history)
    draw = np.random.default_rng(0).choice(len(truth), 5, replace=False)
    record.facts["examples"] = [
        f"“{test['source'][row]}” → “{texts[OURS][row]}” (true: “{test['translation'][row]}”)" for row in draw.tolist()
    ]
    return record


def measure_image(rows: int = 2000, epochs: int = 15) -> Record:
    """Synthetic sentences with words that only the image disambiguates: with it, without it, and with permuted
    images."""
    train, valid, test = (make_translations(count, seed) for seed, count in enumerate((rows, 200, 600)))
    settings = [
        f"training.epochs={epochs}",
        "training.batch_size=32",
        "hidden_size=64",
        "evaluation.bootstrap_samples=0",
    ]
    settings += ["evaluation.unimodal_scores=none"]
    both = fit(train, recipe="translate_with_image", settings=settings, validation=valid, test=test, progress=True)
    text_only = fit(train, recipe="translate", settings=settings, validation=valid, test=test, progress=True)
    inputs = {name: cells for name, cells in test.items() if name != "translation"}
    permuted = {**inputs, "image": inputs["image"][::-1]}
    without_image = {**inputs, "image": [None] * len(inputs["image"])}
    texts = {
        "text and image": both.predict(inputs),
        "text, another row's image": both.predict(permuted),
        "text, image missing": both.predict(without_image),
        "a model of text only": text_only.predict(inputs),
    }
    record = Record(
        name="translation_with_image",
        title="Translation with an image: words that only the image disambiguates",
        method=f"Synthetic sentences, {rows} for training; into German or Russian, according to the prompt. Half of "
        "them are about a crane or a seal, each as often an animal as an object, which the image shows by color and "
        "shape. Fraction of sentences that are right in every letter.",
        unit="exact match",
        larger_is_better=True,
    )
    right = {name: np.array(cells) == np.array(test["translation"]) for name, cells in texts.items()}
    unclear = np.array([bool(re.search("crane|seal", source)) for source in test["source"]])
    for kind, chosen in {"words with two meanings": unclear, "other sentences": ~unclear}.items():
        for name, hits in right.items():
            record.values[f"{kind}: {name}"] = [float(hits[chosen].mean())]
        record.facts[f"{kind}: test rows"] = int(chosen.sum())
    record.facts["seconds of training"] = round(both.run.seconds.training + text_only.run.seconds.training)
    return record


if __name__ == "__main__":
    if sys.argv[1] == "image":
        run_study(measure_image)
    else:
        run_study(measure, Path(sys.argv[1]))
