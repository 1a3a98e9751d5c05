"""Do several inputs help on real images? Stamps of Tux Paint: image and caption to class, trained from scratch.

Data: Debian's `tuxpaint-stamps-default` (GPL-2, not redistributed here). Every image (PNG, without mirrored copies)
outside `symbols` whose folder has 20 members or more; class = first folder. Five folds grouped by caption, so that
equal captions are in one fold. Models of both inputs and of each input are trained on the same folds.

    python -m benchmarks.stamps FOLDER      # FOLDER: an unpacked package, or where to unpack one
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.packages import unpack_debian
from benchmarks.record import Record, run_study
from polymodal.workflows.cross_validation import cross_validate

PACKAGE = "tuxpaint-stamps-default"
RECIPE: dict[str, Any] = {
    "inputs": {
        "picture": {
            "modality": {
                "name": "image",
                "image_size": 64,
                "horizontal_flip": True,
                "translate": 0.1,
                "resize_mode": "pad",
            }
        },
        "caption": {"modality": {"name": "text", "lowercase": True}, "encoder": "embedding_bag"},
    },
    "outputs": {"class": "classification"},
    "data": {"split": {"group_column": "caption"}},
}
FUSIONS = {
    "late fusion, fitted weights": {"name": "late", "combine": "weighted"},
    "concatenation, trained jointly": "concat",
}


def fetch(folder: Path) -> Path:
    """The stamps in `folder`, unpacked from Debian's package if necessary."""
    stamps = folder / "usr/share/tuxpaint/stamps"
    if not stamps.is_dir():
        unpack_debian(PACKAGE, folder)
    return stamps


def table(stamps: Path) -> dict[str, list[str]]:
    """Columns `picture` (path), `caption` (English) and `class` of the stamps in the study."""
    rows = []
    for path in sorted(stamps.rglob("*.png")):
        text = path.with_suffix(".txt")
        kind = path.relative_to(stamps).parts[0]
        if kind != "symbols" and "_mirror" not in path.stem and text.is_file():
            rows.append((path.relative_to(stamps).as_posix(), text.read_text("utf-8").splitlines()[0].strip(), kind))
    sizes = Counter(kind for _, _, kind in rows)
    selected = [row for row in rows if sizes[row[2]] >= 20]
    return {name: [row[index] for row in selected] for index, name in enumerate(("picture", "caption", "class"))}


def measure(folder: Path) -> Record:
    """Cross-validate each fusion, and with the first fusion each unimodal model, on the same folds."""
    stamps = fetch(folder)
    columns = table(stamps)
    record = Record(
        name="stamps",
        title="Image and caption against each input only: stamps of Tux Paint, trained from scratch",
        method="Five folds grouped by caption, stratified by class; accuracy of each fold. Every image (PNG) outside "
        "the folder symbols whose folder has 20 or more. Images of 64 pixels are encoded by the small residual "
        "network, captions by the bag of words. The paired bootstrap draws whole captions. Both fusions were "
        "planned; the best input was determined on these same rows.",
        unit="accuracy",
        larger_is_better=True,
    )
    record.facts["rows by class"] = dict(Counter(columns["class"]))
    for title, fusion in FUSIONS.items():
        first = not record.values
        settings = [] if first else ["evaluation.unimodal_scores=none"]
        result = cross_validate(
            columns, "class", recipe=RECIPE | {"fusion": fusion}, settings=settings, root=stamps, progress=True
        )
        score = result.scores["class"]["accuracy"]
        record.values[title] = [fold["scores"]["class"]["accuracy"]["value"] for fold in result.folds]
        record.facts[f"{title}, all rows"] = f"{score['value']:.3f} ({score['low']:.3f} to {score['high']:.3f})"
        if first:
            record.facts["baseline"] = score["baseline"]
            for name in score["unimodal"]:
                folds = [fold["scores"]["class"]["accuracy"]["unimodal"][name] for fold in result.folds]
                record.values[f"{name} only"] = folds
            against = result.comparison["class"]
            test = against["metrics"]["accuracy"]
            record.facts[f"{title}, against {against['best_input']} only"] = (
                f"difference {test['difference']:+.3f} ({test['low']:+.3f} to {test['high']:+.3f}), "
                f"p = {test['p_value']:.2g}"
            )
    return record


if __name__ == "__main__":
    run_study(measure, Path(sys.argv[1]))
