"""Writes the small example that the tutorial and the how-to pages use: drawn photos and tables of a planted signal.

python docs/example_data.py FOLDER
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

from polymodal.datasets import make_mixed, make_planted_table, make_scenes


def write_example(folder: Path, rows: int = 600) -> None:
    """Write into `folder`: `photos/`, `table.csv` (image, question, score, mode -> answer), `new.csv` (20 other rows
    without answers), `test.csv` (other rows with answers), `houses.csv` (numbers and a category, with the targets
    `grade` and `price`), and `captions.csv` (image, caption)."""
    _write_pictures(folder, "table.csv", make_mixed(rows, seed=0), first=0)
    unanswered = make_mixed(20, seed=1)
    del unanswered["answer"]
    _write_pictures(folder, "new.csv", unanswered, first=rows)
    _write_csv(folder / "houses.csv", make_planted_table(rows, seed=2))
    pictures = make_scenes(100, seed=3)
    _write_pictures(folder, "captions.csv", {"image": pictures["image"], "caption": pictures["caption"]}, rows + 20)
    _write_pictures(folder, "test.csv", make_mixed(rows // 3, seed=4), first=rows + 120)


def _write_pictures(folder: Path, name: str, columns: dict[str, list[Any]], first: int) -> None:
    (folder / "photos").mkdir(parents=True, exist_ok=True)
    paths: list[str | None] = []
    for number, image in enumerate(columns["image"], start=first):
        if image is not None:
            image.save(folder / "photos" / f"{number:04}.png")
        paths.append(None if image is None else f"photos/{number:04}.png")
    _write_csv(folder / name, {**columns, "image": paths})


def _write_csv(path: Path, columns: dict[str, list[Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=write_example.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=600)
    arguments = parser.parse_args()
    write_example(arguments.folder, arguments.rows)
