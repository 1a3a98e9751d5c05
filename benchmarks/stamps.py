"""Do several inputs pay on real pictures? Stamps of Tux Paint: picture and caption to class, all from scratch.

Data: Debian's `tuxpaint-stamps-default` (GPL-2, not redistributed here). Every picture (PNG, without mirrored copies)
outside `symbols` whose folder has 20 members or more; class = first folder. Five folds grouped by caption, so that no
caption is on both sides. Picture and caption together, and each alone, are trained on the same folds.

    python -m benchmarks.stamps FOLDER      # FOLDER: an unpacked package, or where to unpack it
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from polymodal.crossvalidation import cross_validate

PACKAGE = "tuxpaint-stamps-default"
RECIPE: dict[str, Any] = {
    "inputs": {
        "picture": {"modality": {"name": "image", "pixels": 64, "flip": True, "shift": 0.1, "fit": "pad"}},
        "caption": {"modality": {"name": "text", "lowercase": True}, "encoder": "bag"},
    },
    "fusion": {"name": "late", "combine": "weighted"},  # of these few rows a joint network learns little more by heart
    "outputs": {"class": "classify"},
    "data": {"split": {"group": "caption"}},
}
RECORD = Path(__file__).parent / "records" / "stamps.json"


def fetch(folder: Path) -> Path:
    """The stamps below `folder`, unpacked from Debian's package if they are not there."""
    stamps = folder / "usr/share/tuxpaint/stamps"
    if not stamps.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as place:
            subprocess.run(["apt-get", "download", PACKAGE], cwd=place, check=True)
            (package,) = Path(place).glob("*.deb")
            subprocess.run(["dpkg-deb", "-x", str(package), str(folder)], check=True)
    return stamps


def table(stamps: Path) -> dict[str, list[str]]:
    """Columns `picture` (path), `caption` (English) and `class` of the stamps that the study uses."""
    rows = []
    for path in sorted(stamps.rglob("*.png")):
        text = path.with_suffix(".txt")
        kind = path.relative_to(stamps).parts[0]
        if kind != "symbols" and "_mirror" not in path.stem and text.is_file():
            rows.append((path.relative_to(stamps).as_posix(), text.read_text("utf-8").splitlines()[0].strip(), kind))
    sizes = Counter(kind for _, _, kind in rows)
    kept = [row for row in rows if sizes[row[2]] >= 20]
    return {name: [row[place] for row in kept] for place, name in enumerate(("picture", "caption", "class"))}


def main(folder: Path, settings: list[str]) -> None:
    stamps = fetch(folder)
    columns = table(stamps)
    result = cross_validate(columns, "class", recipe=RECIPE, settings=settings, root=stamps, progress=True)
    found = result.to_dict()
    accuracy, against = found["scores"]["class"]["accuracy"], found["comparison"]["class"]
    record = {
        "rows": len(columns["class"]),
        "classes": dict(Counter(columns["class"])),
        "accuracy": accuracy,
        "best_single": against["best_input"],
        "against_best_single": against["metrics"]["accuracy"],
        "folds": [fold["scores"]["class"]["accuracy"] for fold in found["folds"]],
        "recipe": found["recipe"],
    }
    RECORD.parent.mkdir(exist_ok=True)
    RECORD.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps({key: record[key] for key in ("rows", "classes", "accuracy", "against_best_single")}, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
