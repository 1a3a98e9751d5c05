"""Code generation against the code of the most similar training item.

Two synthetic sets. Screenshots: from an image of a page to its HTML (`polymodal.datasets.pages`). Repairs: from a
broken program and its error message to the correct program (`polymodal.datasets.repairs`). The recipes are the shipped
ones. Test items are new combinations: no training page has the same blocks, no training program the same four parts.
The baseline is retrieval: the code of the training item with the nearest image in pixels, or the nearest program and
message by shared words (tf-idf).

    python -m benchmarks.write_code screenshot      # or: repair
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from benchmarks.record import Record, run_study
from polymodal.datasets.pages import make_pages
from polymodal.datasets.planted import Columns
from polymodal.datasets.repairs import make_repairs
from polymodal.evaluation.intervals import Resampling, bootstrap
from polymodal.evaluation.paired_bootstrap import paired_difference
from polymodal.metrics.code_eval.sandbox import Program, run
from polymodal.metrics.text import text_metrics
from polymodal.tasks.text_targets import object_array
from polymodal.workflows.fit import fit

OURS, NEAREST = "generated", "nearest training item's code"
TEST_ROWS = 300
SETTINGS = ["data.split.test_size=0", "data.split.validation_size=0.05"]


@dataclass(frozen=True)
class Task:
    """A synthetic set, its recipe and its metrics.

    inputs, answer, group: its columns; `group` names the combination, which is in the training or in the test part
    nearest: `(train, test) -> [test rows]`, the most similar training row of each test row
    """

    title: str
    recipe: str
    make: Callable[[int, int], Columns]
    rows: int
    inputs: tuple[str, ...]
    answer: str
    group: str
    metrics: tuple[str, ...]
    nearest: Callable[[Columns, Columns], np.ndarray]
    epochs: int
    test_reuse: str  # earlier use of the test rows, before the recipe was fixed


def nearest_image(train: Columns, test: Columns) -> np.ndarray:
    """By the mean squared difference of pixels, at half the size."""
    known, asked = (
        np.stack([np.asarray(image.reduce(2), dtype=np.float32).ravel() / 255 for image in part["image"]])
        for part in (train, test)
    )
    distance = (known**2).sum(1) - 2 * asked @ known.T
    return distance.argmin(1)


def nearest_program(train: Columns, test: Columns) -> np.ndarray:
    """By the cosine of tf-idf vectors of unigrams and bigrams of program and message."""
    known, asked = (
        [f"{program}\n{message}" for program, message in zip(part["broken"], part["message"], strict=True)]
        for part in (train, test)
    )
    words = TfidfVectorizer(token_pattern=r"\w+|[^\w\s]", ngram_range=(1, 2), sublinear_tf=True).fit(known)
    return (words.transform(asked) @ words.transform(known).T).toarray().argmax(1)


TASKS = {
    "screenshot": Task(
        "screenshot to HTML", "screenshot_to_code", make_pages, 6_000, ("image",), "html", "layout",
        ("page_validity", "page_similarity", "element_f1", "exact_match"), nearest_image, 20,
        "Two shorter runs, one with images of 256 pixels, were scored on these rows before the recipe was fixed.",
    ),
    "repair": Task(
        "repair of programs", "code_repair", make_repairs, 6_000, ("broken", "message"), "answer", "combination",
        ("pass@1", "syntax_validity", "exact_match"), nearest_program, 8,
        "This was the first run.",
    ),
}  # fmt: skip


def split_by_group(columns: Columns, group: str, rows: int) -> tuple[Columns, Columns]:
    """Training and test part: groups are drawn until the test part has `rows`."""
    names = sorted(set(columns[group]))
    sizes = Counter(columns[group])
    order = np.random.default_rng(0).permutation(len(names))
    test_groups: set[str] = set()
    while sum(sizes[name] for name in test_groups) < rows:
        test_groups.add(names[order[len(test_groups)]])
    test = [row for row, name in enumerate(columns[group]) if name in test_groups]
    train = sorted(set(range(len(columns[group]))) - set(test))
    first, second = ({name: [cells[row] for row in part] for name, cells in columns.items()} for part in (train, test))
    return first, second


def measure(name: str, task: Task) -> Record:
    """Train, generate code for the test rows, and score it; intervals draw whole combinations."""
    record = Record(
        name=f"write_code_{name}",
        title=f"Code generation: {task.title}",
        method=f"Synthetic items, trained from scratch with the recipe {task.recipe}, {task.epochs} epochs. Test "
        "items are combinations that do not occur in training; intervals and tests draw whole combinations (1,000 "
        f"resamples). The baseline is the code of the most similar training item. {task.test_reuse}",
        unit="score",
        larger_is_better=True,
    )
    train, test = split_by_group(task.make(task.rows, 0), task.group, TEST_ROWS)
    kept = (*task.inputs, task.answer, task.group)
    settings = [*SETTINGS, f"training.epochs={task.epochs}"]
    model = fit({name: train[name] for name in kept}, recipe=task.recipe, settings=settings, progress=True)
    answers = [cell if isinstance(cell, str) else cell[0] for cell in train[task.answer]]
    texts = {
        OURS: object_array(model.predict({name: test[name] for name in task.inputs})),
        NEAREST: object_array([answers[row] for row in task.nearest(train, test)]),
    }
    truth = object_array([(cell,) if isinstance(cell, str) else tuple(cell) for cell in test[task.answer]])
    weight, groups = np.ones(len(truth)), np.asarray(test[task.group])
    for metric in text_metrics(task.metrics):
        for method, generated in texts.items():
            score = bootstrap(metric, generated, truth, weight, Resampling(groups=groups))
            record.values[f"{metric.name}, {method}"] = [score.value]
            record.facts[f"{metric.name}, {method}"] = f"{score.value:.3f} ({score.low:.3f} to {score.high:.3f})"
        paired = paired_difference(metric, texts[OURS], texts[NEAREST], truth, weight, Resampling(groups=groups))
        record.facts[f"{metric.name}, difference"] = (
            f"{paired.value:+.3f} ({paired.low:+.3f} to {paired.high:+.3f}), p = {paired.p_value:.2g}"
        )
    record.facts["rows"] = {"training and validation": len(answers), "test": len(truth)}
    record.facts["test combinations"] = len(set(groups))
    record.facts["training"] = f"{model.run.steps} steps in {model.run.seconds.training:.0f} seconds"
    if "kind" in test:
        record.facts["passes by kind of mistake"] = _by_kind(texts[OURS], test)
    return record


def _by_kind(texts: np.ndarray, test: Columns) -> dict[str, str]:
    """The fraction of programs that pass, for each kind of mistake."""
    outcomes = run([Program(text, tests) for text, tests in zip(texts, test["tests"], strict=True)])
    passed, asked = Counter[str](), Counter(test["kind"])
    for kind, outcome in zip(test["kind"], outcomes, strict=True):
        passed[kind] += outcome.passed
    return {kind: f"{passed[kind]} of {asked[kind]}" for kind in sorted(asked)}


if __name__ == "__main__":
    asked = sys.argv[1]
    run_study(measure, asked, TASKS[asked])
