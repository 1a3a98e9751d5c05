"""The tables of the cases: written once, so that both checkouts read the same bytes.

The names of files and columns must not change: the cases of older checkouts use them."""

from __future__ import annotations

import csv
import json
import wave
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROWS, AUDIO_ROWS, VIDEO_ROWS = 64, 24, 12
_WORDS = ("amber", "birch", "cloud", "drift", "ember", "frost", "grove", "haze")
_COLORS = {"red": (200, 30, 30), "green": (30, 160, 30), "blue": (30, 30, 200)}
_RATE = 8_000

Columns = dict[str, list[Any]]


def write_tables(folder: Path) -> None:
    """Write `rows.csv`, `more.csv` (fewer columns), `unlabelled.csv`, `sounds.jsonl`, `series.jsonl`, `clips.jsonl`,
    `boxes.jsonl` and their media."""
    draw = np.random.default_rng(0)
    rows = _rows(folder, draw, ROWS)
    _write_csv(folder / "rows.csv", rows)
    more = {
        "length": draw.uniform(20, 80, 40).round(3).tolist(),
        "maker": draw.choice(["ash", "elm", "fir"], 40).tolist(),
    }
    more["size"] = [length / 10 for length in more["length"]]
    _write_csv(folder / "more.csv", more)
    unlabeled = _rows(folder, draw, 40)
    _write_csv(folder / "unlabelled.csv", {name: unlabeled[name] for name in ("length", "weight", "maker", "note")})
    _write_lines(folder / "sounds.jsonl", _sounds(folder, draw))
    _write_lines(folder / "series.jsonl", _series(draw))
    _write_lines(folder / "clips.jsonl", _clips(folder, draw))
    square = [[[2 + row % 9, 4, 12, 12, "square"]] * (row % 5 > 0) for row in range(ROWS)]
    _write_lines(folder / "boxes.jsonl", {"photo": rows["photo"], "note": rows["note"], "boxes": square})


def write_easy_vqa(folder: Path, rows: int | None) -> Path:
    """Write the official split of easy-VQA, or its first `rows` rows, as `vqa_train.csv` and `vqa_test.csv`, and return
    the folder of its media."""
    import easy_vqa

    root = Path(easy_vqa.__file__).parent / "data"
    parts = {
        "train": (easy_vqa.get_train_questions(), easy_vqa.get_train_image_paths()),
        "test": (easy_vqa.get_test_questions(), easy_vqa.get_test_image_paths()),
    }
    for name, ((questions, answers, images), paths) in parts.items():
        below = [Path(paths[number]).relative_to(root).as_posix() for number in images]
        columns = {"image": below[:rows], "question": questions[:rows], "answer": answers[:rows]}
        _write_csv(folder / f"vqa_{name}.csv", columns)
    return root


def _rows(folder: Path, draw: np.random.Generator, count: int) -> Columns:
    """Inputs of four kinds, with missing cells, and a target of each kind."""
    length, weight = draw.uniform(20, 80, count).round(3), draw.uniform(0, 5, count).round(3)
    maker, color = draw.choice(["ash", "elm", "fir"], count), draw.choice(list(_COLORS), count)
    large = length > np.where(maker == "ash", 40, 55)
    note = [" ".join(draw.choice(_WORDS, draw.integers(2, 6)).tolist()) for _ in range(count)]
    columns: Columns = {
        "length": length.tolist(),
        "weight": [None if row % 9 == 4 else value for row, value in enumerate(weight.tolist())],
        "maker": [None if row % 11 == 5 else value for row, value in enumerate(maker.tolist())],
        "note": [None if row % 13 == 6 else value for row, value in enumerate(note)],
        "photo": [_photo(folder, name, draw) for name in color.tolist()],
        "hint": (length - 50 + draw.normal(0, 3, count)).round(3).tolist(),
    }
    columns["grade"] = np.where(large, "large", "small").tolist()
    columns["made"] = [f"2024-{1 + row % 12:02}-{1 + row % 28:02}" for row in range(len(note))]
    columns["price"] = (2 * length + 10 * weight).round(3).tolist()
    columns["tags"] = ["|".join(sorted(set(text.split()) & set(_WORDS[:4]))) for text in note]
    columns["caption"] = [f"a {hue} figure of {word}" for hue, word in zip(color, maker, strict=True)]
    columns["group"] = [f"{hue} {word}" for hue, word in zip(color, maker, strict=True)]
    return columns


def _photo(folder: Path, color: str, draw: np.random.Generator) -> str:
    """Write a square on a noisy background; returns its path."""
    pixels = draw.integers(190, 256, (32, 32, 3), dtype=np.uint8)
    left, top = draw.integers(2, 18, 2)
    pixels[top : top + 12, left : left + 12] = _COLORS[color]
    (folder / "photos").mkdir(exist_ok=True)
    path = f"photos/{sum(1 for _ in (folder / 'photos').iterdir()):03}.png"
    Image.fromarray(pixels).save(folder / path)
    return path


def _sounds(folder: Path, draw: np.random.Generator) -> Columns:
    """One low or high note in a second of noise: its kind, its time, and a transcript."""
    columns: Columns = {"sound": [], "kind": [], "events": [], "said": []}
    (folder / "sounds").mkdir()
    for row in range(AUDIO_ROWS):
        kind, start = str(draw.choice(["low", "high"])), float(draw.uniform(0.05, 0.5))
        time = np.arange(_RATE) / _RATE
        note = np.sin(2 * np.pi * (300 if kind == "low" else 900) * time) * ((time > start) & (time < start + 0.4))
        wave_form = (8_000 * note + draw.normal(0, 300, _RATE)).astype("<i2")
        with wave.open(str(folder / "sounds" / f"{row:02}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(_RATE)
            file.writeframes(wave_form.tobytes())
        columns["sound"].append(f"sounds/{row:02}.wav")
        columns["kind"].append(kind)
        columns["events"].append([{"start": round(start, 3), "end": round(start + 0.4, 3), "label": kind}])
        columns["said"].append("lo" if kind == "low" else "hi")
    return columns


def _series(draw: np.random.Generator) -> Columns:
    """Two channels of 24 steps that rise or fall."""
    kinds = draw.choice(["rise", "fall"], AUDIO_ROWS).tolist()
    steps = np.linspace(-1, 1, 24)
    columns: Columns = {"series": [], "kind": kinds}
    for kind in kinds:
        slope = steps if kind == "rise" else -steps
        values = np.stack([slope + draw.normal(0, 0.3, 24), draw.normal(size=24)], axis=1)
        columns["series"].append(values.round(4).tolist())
    return columns


def _clips(folder: Path, draw: np.random.Generator) -> Columns:
    """Animations of eight frames in which a square moves right or down."""
    columns: Columns = {"clip": [], "kind": draw.choice(["right", "down"], VIDEO_ROWS).tolist()}
    (folder / "clips").mkdir()
    for row, kind in enumerate(columns["kind"]):
        frames = []
        for step in range(8):
            pixels = np.full((32, 32, 3), 230, np.uint8)
            top, left = (10, 2 * step) if kind == "right" else (2 * step, 10)
            pixels[top : top + 10, left : left + 10] = _COLORS[str(draw.choice(list(_COLORS)))]
            frames.append(Image.fromarray(pixels))
        frames[0].save(folder / "clips" / f"{row:02}.gif", save_all=True, append_images=frames[1:], duration=100)
        columns["clip"].append(f"clips/{row:02}.gif")
    return columns


def _write_csv(path: Path, columns: Columns) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def _write_lines(path: Path, columns: Columns) -> None:
    rows = [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
