"""Training of a language model: tokens per second against the Trainer of transformers."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.library import run_other
from benchmarks.measure import interleaved
from benchmarks.record import Record
from polymodal.core.progress import Progress
from polymodal.data.partition import Split
from polymodal.data.table.table import open_table
from polymodal.datasets.planted import Columns
from polymodal.experiments.experiment import Experiment, prepare_experiment
from polymodal.experiments.plan import complete_schedule, make_plan
from polymodal.model.make_network import make_network
from polymodal.nn.network import Network
from polymodal.recipe.recipe import Recipe
from polymodal.runtime.random_state import isolated_random_state
from polymodal.training.trainer import Trainer

HEADS, LAYERS, WIDTH, BATCH, RATE, DROPOUT = 6, 4, 192, 32, 1e-3, 0.1


def make_texts(rows: int, seed: int) -> Columns:
    """Texts of 4 to 200 words, with word frequencies by Zipf's law."""
    draw = np.random.default_rng(seed)
    syllables = [a + b for a in "bdfgklmnprst" for b in "aeiou"]
    words = ["".join(draw.choice(syllables, draw.integers(1, 4)).tolist()) for _ in range(6_000)]
    frequency = 1 / np.arange(1, len(words) + 1)
    lengths = np.clip(draw.lognormal(3.6, 0.7, rows), 4, 200).astype(int)
    return {
        "text": [" ".join(draw.choice(words, length, p=frequency / frequency.sum()).tolist()) for length in lengths]
    }


def run(smallest: bool) -> Record:
    """Tokens of texts per second in training steps, without padding and begin tokens."""
    record = Record(
        name="language_model_training",
        title="Training of a language model, against the Trainer of transformers",
        method=(
            "The same synthetic texts with the same tokens, one epoch in batches of 32 rows of similar length, one "
            "thread, fused AdamW, gradient clipping and a schedule; a decoder with 4 layers, width 192, 6 heads and "
            "tied embeddings. Polymodal: the recipe language_model, whose decoder also has (unused) attention to "
            "inputs. The Trainer: GPT-2 of that shape with fused attention. Rates cover only the steps, without "
            "reading, preparing and scoring, on both sides."
        ),
        unit="tokens/s",
        larger_is_better=True,
    )
    with TemporaryDirectory() as place:
        folder = Path(place)
        experiment = prepare(folder, 64 if smallest else 240)
        answers = experiment.splits["train"].table.targets["text"][0]
        text: Any = experiment.preparation.tasks["text"].text_shape
        rows = [[text.bos_id, *answer.ids.tolist()] for answer in answers]
        shape = {"width": WIDTH, "layers": LAYERS, "heads": HEADS, "batch": BATCH, "learning_rate": RATE}
        job = {"rows": rows, "vocabulary": text.vocab_size, "dropout": DROPOUT, **shape}
        (folder / "rows.json").write_text(json.dumps(job))
        tokens = sum(len(row) - 1 for row in rows)
        losses: dict[str, float] = {}

        def ours(precision: str) -> float:
            network, trainer = make_trainer(experiment, precision)
            history = trainer.run()
            losses[f"Polymodal, {precision}"] = round(history.epochs[0].loss["text"], 3)
            record.facts["Polymodal: parameters"] = sum(parameter.numel() for parameter in network.parameters())
            return tokens / history.seconds

        def theirs(precision: str) -> float:
            result = run_other("transformers", "language_model_run.py", folder / "rows.json", precision, threads=1)
            losses[f"Trainer, {precision}"] = round(result["loss"], 3)
            record.facts["Trainer: parameters"] = result["parameters"]
            record.facts["Trainer: versions"] = result["versions"]
            return float(result["tokens_per_second"])

        contestants = {}
        for precision in ("fp32", "bf16"):
            contestants[f"Polymodal, {precision}"] = lambda precision=precision: ours(precision)
            contestants[f"Trainer, {precision}"] = lambda precision=precision: theirs(precision)
        interleaved(record, contestants, 1 if smallest else 3, warm=0)
    for precision in ("fp32", "bf16"):
        record.compare(f"Polymodal, {precision}", f"Trainer, {precision}")
    record.facts |= {"rows": len(rows), "tokens": tokens, "vocabulary": text.vocab_size, "mean loss": losses}
    return record


def prepare(folder: Path, rows: int) -> Experiment:
    """The experiment of the recipe on synthetic texts; the first ten rows are also the validation rows."""
    table = open_table(make_texts(rows, seed=0), cache=folder / "tables")
    recipe = Recipe.read("language_model")
    decoder = {"name": "transformer", "num_layers": LAYERS, "num_heads": HEADS, "dropout": DROPOUT}
    task = {"name": "text_generation", "vocab_size": 4_000}
    overrides = {"outputs": {"text": {"task": task, "decoder": decoder}}, "hidden_size": WIDTH}
    training = {
        "epochs": 1,
        "batch_size": BATCH,
        "learning_rate": RATE,
        "num_threads": 1,
        "precision": "fp32",
        "average_top_k": 1,
    }
    complete = make_plan(table, Recipe(**{**recipe.to_dict(), **overrides, "training": training})).recipe
    complete = complete_schedule(complete, rows)
    splits = {"train": Split(table, np.arange(rows)), "validation": Split(table, np.arange(10))}
    return prepare_experiment(complete, splits, folder=folder / "prepared", cache=None, progress=Progress(False))


def make_trainer(experiment: Experiment, precision: str) -> tuple[Network, Trainer]:
    """A new network and its trainer."""
    recipe = experiment.recipe
    recipe = recipe.model_copy(update={"training": recipe.training.model_copy(update={"precision": precision})})
    with isolated_random_state(0):
        network = make_network(recipe, experiment.preparation)
    return network, Trainer(recipe, network, experiment.preparation, experiment.splits)
