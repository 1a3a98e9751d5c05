"""Fine-tuning the last two layers: from cached hidden states, against running the frozen layers in every step."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.feature_cache import Run, run_of
from benchmarks.measure import interleaved
from benchmarks.record import Record
from polymodal.core.progress import Progress
from polymodal.experiments.experiment import Experiment, prepare_experiment
from polymodal.runtime.random_state import isolated_random_state
from polymodal.workflows.fit import plan_fit

DOCS = Path(__file__).parents[1] / "docs"
#: Number of words of a text: its name in the record.
TEXTS = {12: "MiniLM (6 layers), texts of 12 words", 100: "MiniLM (6 layers), texts of 100 words"}
IMAGES = "a ViT of 12 layers, images of 224 pixels"
SIDE = 224


def run(smallest: bool) -> Record:
    """Seconds of an epoch with its validation, with the two top layers trainable."""
    record = Record(
        name="last_layers",
        title="Fine-tuning the last two layers: cached hidden states against running all layers",
        method=(
            "`fine_tuning: last, num_layers: 2`. MiniLM with its real weights on passages of this documentation; a "
            "ViT of 12 layers and width 192 with random weights on noise. Seconds of an epoch with its validation, "
            "the median without the first; encoding comes before. Both sides compute the same (one thread; number "
            "format as named, also for the cached states) with the same random numbers, so that their losses can be "
            "compared. Counted in layers, a step costs 4 + 2 x 3 forwards against 2 x 3 with 6 layers (1.7 times), "
            "and 10 + 2 x 3 against 2 x 3 with 12 (2.7 times)."
        ),
        unit="s per epoch",
        larger_is_better=False,
    )
    rows, epochs, rounds = (16, 2, 1) if smallest else (128, 2, 3)
    with TemporaryDirectory() as name:
        work_folder = Path(name)
        contestants: dict[str, Callable[[], float]] = {}
        runs: dict[str, Run] = {}

        def add_contestant(title: str, experiment: Experiment, cached: bool, cache: Path) -> None:
            def seconds() -> float:
                runs[title] = run_of(experiment, epochs, cached=cached, cache=cache)
                return statistics.median(runs[title].epochs[1:])

            contestants[title] = seconds

        pairs = []
        for number, (task, columns, encoder) in enumerate(tasks(work_folder, rows, smallest)):
            for precision in ("fp32", "bf16"):
                experiment = prepare(columns, encoder, precision, work_folder / f"run{number}{precision}")
                pair = [f"{task}, {precision}: {way}" for way in ("cached", "all layers")]
                pairs.append(pair)
                for title, cached in zip(pair, (True, False), strict=True):
                    add_contestant(title, experiment, cached, work_folder / f"features{number}{precision}")
        interleaved(record, contestants, rounds, warm=0 if smallest else 1)
        for ours, whole in pairs:
            record.compare(ours, whole, None if smallest else 2)
            difference = np.abs(np.subtract(runs[ours].losses, runs[whole].losses)).max()
            record.facts[f"{ours.removesuffix(': cached')}: largest difference of the losses"] = float(difference)
    return record


def tasks(work_folder: Path, rows: int, smallest: bool) -> list[tuple[str, dict[str, list[Any]], dict[str, Any]]]:
    """Name, table and encoder of each task."""
    found = []
    for words, name in TEXTS.items():
        encoder = {"name": "pretrained_text", "checkpoint": "starter"}
        found.append((name, with_labels(passages(rows, min(words, 16) if smallest else words)), encoder))
    draw = np.random.default_rng(0)
    side = 32 if smallest else SIDE
    images = [draw.integers(0, 256, (side, side, 3), dtype=np.uint8) for _ in range(rows // 2)]
    encoder = {"name": "pretrained_image", "checkpoint": vit(work_folder / "vit", side)}
    return [*found, (IMAGES, with_labels(images), encoder)]


def with_labels(cells: list[Any]) -> dict[str, list[Any]]:
    return {"x": cells, "y": ["even" if row % 2 else "odd" for row in range(len(cells))]}


def passages(rows: int, length: int) -> list[str]:
    """Passages of `length` words from the pages of this documentation."""
    words = " ".join(page.read_text(encoding="utf-8") for page in sorted(DOCS.glob("**/*.md"))).split()
    return [" ".join(words[start % len(words) :][:length]) for start in range(0, rows * length, length)]


def vit(folder: Path, side: int) -> str:
    """A checkpoint with the shape of ViT-Tiny (Touvron et al., 2021) and random weights."""
    from transformers import ViTConfig, ViTModel

    with isolated_random_state(0):
        config = ViTConfig(
            hidden_size=192, num_hidden_layers=12, num_attention_heads=3, intermediate_size=768, image_size=side
        )
        ViTModel(config).save_pretrained(folder)
    size = {"height": side, "width": side}
    processor = {"image_processor_type": "ViTImageProcessor", "size": size, "image_mean": [0.5] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor | {"image_std": [0.5] * 3}))
    return str(folder)


def prepare(columns: dict[str, list[Any]], encoder: dict[str, Any], precision: str, folder: Path) -> Experiment:
    training = {
        "precision": precision,
        "num_threads": 1,
        "early_stopping_patience": 1_000,
        "feature_cache": {"dtype": precision},
    }
    modality = "text" if encoder["name"] == "pretrained_text" else "image"
    encoder_options = {**encoder, "fine_tuning": "last", "num_layers": 2}
    recipe = {
        "inputs": {"x": {"modality": modality, "encoder": encoder_options}},
        "seed": 0,
        "training": training | {"modality_dropout": 0.0, "batch_size": 16},
    }
    plan, splits = plan_fit(columns, "y", recipe=recipe)
    return prepare_experiment(plan.recipe, splits, folder=folder, cache=folder / "media", progress=Progress(False))
