"""Tables in which each part of an item predicts all other parts, or (shuffled) none; and short pretraining."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

import polymodal
from polymodal.model.model import Model

Columns = dict[str, list[Any]]

WORDS = ["red", "green", "blue", "black"]
PITCHES = [300, 700, 1500, 3000]
#: Stripes of four kinds, 8 x 8 pixels each.
STRIPES = [(np.indices((8, 8))[axis] // width % 2 * 255).astype(np.uint8) for axis in (0, 1) for width in (1, 2)]


def kinds(rows: int, parts: int, draw: np.random.Generator, shuffled: bool) -> np.ndarray:
    """Kinds 0 to 3, `[rows, parts]`: the same in all parts of a row, or drawn independently."""
    if shuffled:
        return draw.integers(4, size=(rows, parts))
    return np.repeat(draw.integers(4, size=(rows, 1)), parts, axis=1)


def images(rows: int, draw: np.random.Generator, shuffled: bool) -> Columns:
    drawn = kinds(rows, 16, draw, shuffled).reshape(rows, 4, 4)
    return {"x": [Image.fromarray(np.block([[STRIPES[k] for k in r] for r in one])).convert("RGB") for one in drawn]}


def clips(rows: int, draw: np.random.Generator, shuffled: bool) -> Columns:
    return {"x": [np.stack([np.asarray(one)] * 2) for one in images(rows, draw, shuffled)["x"]]}


def sounds(rows: int, draw: np.random.Generator, shuffled: bool) -> Columns:
    import soundfile

    seconds = np.arange(640) / 8_000
    cells = []
    for row in kinds(rows, 8, draw, shuffled):
        wave = np.concatenate([0.3 * np.sin(2 * np.pi * PITCHES[kind] * seconds) for kind in row])
        file = io.BytesIO()
        soundfile.write(file, wave + draw.normal(0, 0.003, len(wave)), 8_000, format="WAV")
        cells.append(file.getvalue())
    return {"x": cells}


def series(rows: int, draw: np.random.Generator, shuffled: bool) -> Columns:
    levels = draw.normal(size=(rows, 18 if shuffled else 1, 1))
    return {"x": (levels + 0.1 * draw.normal(size=(rows, 18, 1))).tolist()}


def texts(rows: int, draw: np.random.Generator, shuffled: bool) -> Columns:
    return {"x": [" ".join(WORDS[kind] for kind in row) for row in kinds(rows, 6, draw, shuffled)]}


def numbers(rows: int, draw: np.random.Generator, shuffled: bool) -> Columns:
    table = draw.normal(size=(rows, 4 if shuffled else 1)) + 0.1 * draw.normal(size=(rows, 4))
    return {f"x{column}": table[:, column].tolist() for column in range(4)}


def labels(rows: int, draw: np.random.Generator, shuffled: bool) -> Columns:
    table = np.array(WORDS)[kinds(rows, 4, draw, shuffled)]
    return {f"x{column}": table[:, column].tolist() for column in range(4)}


MAKERS: dict[str, Callable[[int, np.random.Generator, bool], Columns]] = {
    "image": images,
    "video": clips,
    "audio": sounds,
    "time_series": series,
    "text": texts,
    "number": numbers,
    "category": labels,
}
#: Modality and small encoder of each input, without augmentations.
SPECS: dict[str, dict[str, Any]] = {
    "image": {
        "modality": {"image_size": 32, "translate": 0},
        "encoder": {"name": "vit", "patch_size": 8, "num_layers": 1},
    },
    "video": {
        "modality": {"image_size": 32, "translate": 0, "num_frames": 2},
        "encoder": {"name": "video_transformer", "tubelet": 8, "num_layers": 1},
    },
    "audio": {
        "modality": {"sampling_rate": 8_000, "time_shift": 0, "gain_db": 0},
        "encoder": {"name": "audio_cnn", "channels": 8},
    },
    "time_series": {"modality": {"jitter": 0, "random_crop": 0}, "encoder": "series_lstm"},
    "text": {"modality": {}, "encoder": {"name": "transformer", "num_layers": 1}},
    "number": {"modality": {}},
    "category": {"modality": {}},
}
TRAINING = {
    "epochs": 10,
    "batch_size": 32,
    "learning_rate": 5e-3,
    "early_stopping_patience": 100,
    "average_top_k": 1,
    "precision": "fp32",
    "num_threads": 1,
}


def spec(modality: str, columns: Columns) -> dict[str, Any]:
    """The input of a recipe that reads these columns."""
    chosen = SPECS[modality]
    return {**chosen, "columns": list(columns), "modality": {"name": modality, **chosen["modality"]}}


def pretrained(
    train: Columns, valid: Columns, inputs: dict[str, Any], objective: dict[str, Any], **training: Any
) -> Model:
    recipe = {"hidden_size": 32, "inputs": inputs, "objectives": [objective], "training": {**TRAINING, **training}}
    return polymodal.pretrain(train, recipe=recipe, validation=valid)


def below_chance(model: Model) -> dict[str, float]:
    """Validation loss of each term, as a fraction of the baseline loss."""
    scores = model.metrics["validation"]
    return {name: one["loss"]["value"] / one["loss"]["baseline"] for name, one in scores.items()}


def at_chance(model: Model) -> list[str]:
    """The notices of the monitor on losses at the baseline."""
    return [notice for notice in model.run.notices if "baseline" in notice]
