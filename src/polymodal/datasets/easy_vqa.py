"""The demonstration: visual question answering on easy-VQA, from the official split to a scored, saved model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from polymodal.core.errors import MissingExtraError
from polymodal.model.model import Model
from polymodal.recipe.shipped import recipe_file
from polymodal.workflows.fit import fit

RECIPE = recipe_file("easy_vqa")


def easy_vqa() -> tuple[dict[str, pa.Table], Path]:
    """The easy-VQA data set (Zhou, 2019; MIT licence) as two tables, `train` and `test`, and its media folder.

    5,000 drawn images of 64 x 64 pixels and 48,248 questions about them with 13 answers. Columns `image` (path below
    the folder), `question` and `answer`; rows in the order of the package.

    Raises:
        MissingExtraError: the package `easy-vqa` is not installed.
    """
    try:
        import easy_vqa as package
    except ImportError:
        raise MissingExtraError("easy-vqa", "demo", "the demonstration") from None
    root = Path(package.__file__).parent / "data"
    parts = {
        "train": (package.get_train_questions(), package.get_train_image_paths()),
        "test": (package.get_test_questions(), package.get_test_image_paths()),
    }
    tables = {}
    for name, ((questions, answers, images), paths) in parts.items():
        below = {number: Path(path).relative_to(root).as_posix() for number, path in paths.items()}
        columns = {"image": [below[number] for number in images], "question": questions, "answer": answers}
        tables[name] = pa.table(columns)
    return tables, root


def run_demo(out: Path, settings: list[str] | None = None, *, progress: bool = True) -> Model:
    """Train on easy-VQA by the shipped recipe and leave the model directory in `out`, which is replaced."""
    tables, root = easy_vqa()
    keywords: dict[str, Any] = {"root": root, "out": out, "overwrite": out.exists(), "progress": progress}
    return fit(tables["train"], "answer", recipe=RECIPE, settings=settings, test=tables["test"], **keywords)
