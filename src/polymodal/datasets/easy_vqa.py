"""The easy-VQA data set: questions about small drawn images, from its package."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from polymodal.core.errors import MissingExtraError


def load_easy_vqa() -> tuple[dict[str, pa.Table], Path]:
    """The easy-VQA data set as two tables, `train` and `test`, and its media folder.

    Source: Victor Zhou, "easy-VQA", 2019; MIT license; from the installed package `easy-vqa`, without a download. 5,000
    drawn images of 64 x 64 pixels and 48,248 questions with 13 answers; the official split.

    Columns: `image` (path below the folder), `question`, `answer`; rows in the order of the package.

        >>> tables, root = load_easy_vqa()
        >>> tables["train"].column_names, (root / tables["train"]["image"][0].as_py()).is_file()
        (['image', 'question', 'answer'], True)

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
