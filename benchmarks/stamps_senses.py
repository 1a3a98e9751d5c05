"""Five inputs of stamps: image, caption, sound effect and two spoken descriptions, most of them missing.

Data: as in `benchmarks.stamps`; besides image and caption each stamp may have a sound effect (`NAME.ogg`, `.wav`),
an English spoken description (`NAME_desc.ogg`) and one in the most frequent other language.

    python -m benchmarks.stamps_senses FOLDER      # FOLDER: an unpacked package, or where to unpack one
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.missing import Inputs, study
from benchmarks.record import Record, run_study
from benchmarks.stamps import RECIPE as STAMPS_RECIPE
from benchmarks.stamps import fetch, table
from polymodal.core.paths import cache_folder
from polymodal.data.partition import make_fold_splits
from polymodal.data.table.table import open_table
from polymodal.experiments.plan import make_plan
from polymodal.recipe.recipe import Recipe

INPUTS = ("picture", "caption", "effect", "speech", "speech_other")
RECIPE: dict[str, Any] = {
    **STAMPS_RECIPE,
    "inputs": {
        **STAMPS_RECIPE["inputs"],
        "effect": {"modality": {"name": "audio", "seconds": 2.0}},
        "speech": {"modality": {"name": "audio", "seconds": 2.0}},
        "speech_other": {"modality": {"name": "audio", "seconds": 2.0}},
    },
    "fusion": "hybrid",
    "training": {"num_threads": 1},
}


def input_columns(stamps: Path) -> tuple[dict[str, list[str | None]], str]:
    """The columns of the study, None if a stamp has no such file, and the language of `speech_other`."""
    columns: dict[str, list[str | None]] = {name: list(cells) for name, cells in table(stamps).items()}
    languages = Counter(match[1] for path in stamps.rglob("*.ogg") if (match := re.search(r"_desc_(\w+)$", path.stem)))
    ((language, _),) = languages.most_common(1)
    columns |= {"effect": [], "speech": [], "speech_other": []}
    for picture in columns["picture"]:
        stem = Path(picture or "").with_suffix("")
        for name, endings in (
            ("effect", [".ogg", ".wav"]),
            ("speech", ["_desc.ogg"]),
            ("speech_other", [f"_desc_{language}.ogg"]),
        ):
            files = [f"{stem.as_posix()}{ending}" for ending in endings]
            columns[name].append(next((file for file in files if (stamps / file).is_file()), None))
    return columns, language


def measure(folder: Path) -> Record:
    """Five folds: all inputs, image and caption, and all but each input; the model of all inputs with each input
    hidden."""
    stamps = fetch(folder)
    columns, language = input_columns(stamps)
    opened_table = open_table(columns, root=stamps, cache=cache_folder() / "tables")
    recipe = make_plan(opened_table, Recipe(**RECIPE), ["class"]).recipe
    subsets: list[Inputs] = [("picture", "caption")]
    subsets += [tuple(one for one in INPUTS if one != left_out) for left_out in INPUTS]
    result = study(recipe, make_fold_splits(recipe, opened_table, 5), subsets)
    record = Record(
        name="stamps_senses",
        title="Five inputs, most of them missing in most rows: stamps of Tux Paint, trained from scratch",
        method="Five folds grouped by caption, stratified by class; accuracy over all rows, each predicted by the "
        "model of its fold. Hybrid fusion, selected over concatenation and late fusion by the score of all inputs on "
        "the first three folds. Differences are paired, with bootstrap intervals that draw whole captions.",
        unit="accuracy",
        larger_is_better=True,
    )
    rows = len(columns["class"])
    record.facts["rows"] = rows
    record.facts["fraction of rows with the input"] = {
        name: f"{sum(cell is not None for cell in cells) / rows:.0%}"
        for name, cells in columns.items()
        if name in INPUTS
    }
    record.facts["language of speech_other"] = language
    result.add_to(record)
    return record


if __name__ == "__main__":
    run_study(measure, Path(sys.argv[1]))
