"""Are generated captions better than the caption of the most similar training image?

Two data sets: stamps of Tux Paint with their English captions, and scenes composed of them (`benchmarks.scenes`), whose
captions state facts. The baseline is retrieval: the caption of the training image that is nearest in frozen
EfficientNet-lite0 features. The control is the same model with the images of the test rows permuted: its score does not
depend on the image.

    python -m benchmarks.captioning FOLDER scenes      # FOLDER: the unpacked packages, or where to unpack them
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

#: Frozen features of image regions: input of the model, and, averaged, features for the nearest image.
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
    "Frozen EfficientNet-lite0 features of 7 x 7 regions, and two decoder layers that attend to them; greedy "
    "decoding. CIDEr-D weights n-grams by inverse frequency in the scored captions. Intervals and paired differences "
    "by a bootstrap of rows."
)
FACT_KINDS: dict[str, FactReader] = {
    "objects only": lambda text: {fact for fact in caption_facts(text) if len(fact) == 1},
    "counts only": lambda text: {fact for fact in caption_facts(text) if len(fact) == 2},
    "relations only": lambda text: {fact for fact in caption_facts(text) if len(fact) == 3},
}
OURS, NEAREST, SHUFFLED = "generated caption", "nearest image's caption", "caption generated for another image"


@dataclass
class Captioned:
    """Captions of the test rows: `texts` by method, and the references `truth`, in the form that metrics expect.

    cells: the test rows
    known: whether a generated caption is a training caption, `[rows]` bool
    """

    texts: dict[str, np.ndarray]
    truth: np.ndarray
    cells: Columns
    known: np.ndarray

    def rows(self, rows: np.ndarray) -> Captioned:
        """A selection of rows."""
        texts = {name: cells[rows] for name, cells in self.texts.items()}
        cells = {name: [column[row] for row in rows.tolist()] for name, column in self.cells.items()}
        return Captioned(texts, self.truth[rows], cells, self.known[rows])


def concatenate(parts: list[Captioned]) -> Captioned:
    """The rows of several parts, concatenated."""
    texts = {name: np.concatenate([part.texts[name] for part in parts]) for name in parts[0].texts}
    cells = {name: [cell for part in parts for cell in part.cells[name]] for name in parts[0].cells}
    return Captioned(
        texts, np.concatenate([part.truth for part in parts]), cells, np.concatenate([part.known for part in parts])
    )


def train_and_caption(
    recipe: RecipeLike,
    parts: dict[str, Columns],
    *,
    settings: list[str] | None = None,
    root: Path | None = None,
    same: str | None = None,
) -> Captioned:
    """Train on `parts` (train, validation, test; input `image`, output `caption`); caption the test rows in three ways.

    same: a column (such as the language) in which the row of the nearest image must be equal
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
        permutation = np.random.default_rng(0).permutation(len(image.items))[image.index]
        permuted = replace(test, inputs={**test.inputs, "image": replace(image, index=permutation)})
        task = model.preparation.tasks["caption"]
        seen = np.array([references[0] for references in task.truth(train.targets["caption"][0])], dtype=object)
        similarity = image_features(test) @ image_features(train).T
        if same is not None:
            similarity[np.array(parts["test"][same])[:, None] != np.array(parts["train"][same])] = -np.inf
        texts = {OURS: generate(model, test), NEAREST: seen[similarity.argmax(1)], SHUFFLED: generate(model, permuted)}
        truth = task.truth(test.targets["caption"][0])
    return Captioned(texts, truth, parts["test"], np.isin(texts[OURS].astype(str), seen.astype(str)))


def generate(model: Model, prepared: PreparedTable) -> np.ndarray:
    """Generated captions of prepared rows."""
    predictions = model.predictor.predict(Split.all_rows(prepared))
    return model.preparation.tasks["caption"].distribution(predictions["caption"].values)


def image_features(prepared: PreparedTable) -> np.ndarray:
    """The mean feature of each row's image, normalized to length 1, `[rows, width]`."""
    image = prepared.inputs["image"]
    assert isinstance(image.items, FeatureItems)
    features = mean_features(image.items)[image.index]
    normalized: np.ndarray = features / np.linalg.norm(features, axis=1, keepdims=True)
    return normalized


def report(
    record: Record, captioned: Captioned, metrics: Iterable[Metric], title: str, groups: np.ndarray | None = None
) -> None:
    """Add every score with its interval, and the paired differences between the model's captions and the others.

    groups: group of each row for resampling, `[rows]`
    """
    weight = np.ones(len(captioned.truth))
    for metric in metrics:
        for name, texts in captioned.texts.items():
            score = bootstrap(metric, texts, captioned.truth, weight, Resampling(groups=groups))
            record.values.setdefault(f"{title}, {metric.name}: {name}", []).append(score.value)
            record.facts[f"{title}, {metric.name}: {name}"] = f"{score.value:.3f} ({score.low:.3f} to {score.high:.3f})"
        for name in (NEAREST, SHUFFLED):
            paired = paired_difference(
                metric, captioned.texts[OURS], captioned.texts[name], captioned.truth, weight, Resampling(groups=groups)
            )
            record.facts[f"{title}, {metric.name}: {OURS} minus {name}"] = (
                f"{paired.value:+.3f} ({paired.low:+.3f} to {paired.high:+.3f}), p = {paired.p_value:.2g}"
            )


def examples(captioned: Captioned, count: int = 5) -> list[str]:
    """Generated and true captions of random rows."""
    rows = np.random.default_rng(0).choice(len(captioned.truth), count, replace=False).tolist()
    generated, near = captioned.texts[OURS], captioned.texts[NEAREST]
    return [f"“{generated[row]}” (true: “{captioned.truth[row][0]}”; nearest: “{near[row]}”)" for row in rows]


def stamp_captions(stamps: Path) -> Columns:
    """Columns `image` (path) and `caption` (English) of every image (PNG) except symbols and mirrored copies."""
    columns: Columns = {"image": [], "caption": []}
    for path in sorted(stamps.rglob("*.png")):
        text = path.with_suffix(".txt")
        name = path.relative_to(stamps)
        if name.parts[0] != "symbols" and "_mirror" not in path.stem and text.is_file():
            columns["image"].append(name.as_posix())
            columns["caption"].append(text.read_text("utf-8").splitlines()[0].strip())
    return columns


def fold(columns: Columns, number: int, by: str) -> dict[str, Columns]:
    """A fifth of the rows for the test, a tenth for validation, the rest for training. Equal cells of `by`
    stay together."""
    places = [zlib.crc32(cell.encode()) % 10 for cell in columns[by]]
    parts: dict[str, Columns] = {name: {column: [] for column in columns} for name in ("train", "validation", "test")}
    for row, place in enumerate(places):
        turned = (place - 2 * number) % 10
        part = parts["test" if turned < 2 else "validation" if turned == 2 else "train"]
        for name, cells in columns.items():
            part[name].append(cells[row])
    return parts


def measure_scenes(folder: Path) -> Record:
    """Scenes of stamps and photographs that are not in the training part."""
    stamps, photos = fetch(folder / "stamps"), fetch_photos(folder / "opencv-doc")
    names: tuple[Part, ...] = ("train", "validation", "test")
    parts: dict[str, Columns] = {
        part: compose(stamps, photos, part, SCENES[part], seed) for seed, part in enumerate(names)
    }
    captioned = train_and_caption(RECIPE, parts, settings=["training.epochs=16"])
    record = Record(
        name="captioning_scenes",
        title="Captions of composed scenes: generated by a Transformer, against the nearest image's caption",
        method=f"Stamps on photographs; each part has its own stamps and photographs. {METHOD}",
        unit="CIDEr-D, or F1 of facts",
        larger_is_better=True,
    )
    report(record, captioned, text_metrics(["cider", "fact_f1"], read=caption_facts), "all facts")
    for kind, read in FACT_KINDS.items():
        report(record, captioned, text_metrics(["fact_f1"], read=read), kind)
    record.facts["scenes"] = SCENES
    _add_row_facts(record, captioned)
    return record


def measure_stamps(folder: Path) -> Record:
    """Stamps whose captions are not in the training part."""
    stamps = fetch(folder / "stamps")
    columns = stamp_captions(stamps)
    captioned = concatenate(
        [
            train_and_caption(RECIPE, fold(columns, number, "caption"), settings=["training.epochs=30"], root=stamps)
            for number in range(FOLDS)
        ]
    )
    record = Record(
        name="captioning_stamps",
        title="Captions of Tux Paint's stamps: generated by a Transformer, against the nearest image's caption",
        method=f"Images with their English captions; {FOLDS} folds, with equal captions in one fold, so that correct "
        f"captions are composed from words of other captions. {METHOD}",
        unit="CIDEr-D, chrF2, or F1 of words",
        larger_is_better=True,
    )
    report(record, captioned, text_metrics(["cider", "chrf", "token_f1"]), "stamps")
    record.facts["rows"] = len(captioned.truth)
    _add_row_facts(record, captioned)
    return record


def _add_row_facts(record: Record, captioned: Captioned) -> None:
    record.facts["generated captions that are training captions"] = f"{captioned.known.mean():.1%}"
    record.facts["examples"] = examples(captioned)


if __name__ == "__main__":
    measure = {"scenes": measure_scenes, "stamps": measure_stamps}[sys.argv[2]]
    run_study(measure, Path(sys.argv[1]))
