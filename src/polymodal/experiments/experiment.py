"""One experiment: parts of prepared tables -> a trained, scored model. `fit` and cross-validation are made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from polymodal.core.errors import DataError, RecipeError
from polymodal.core.progress import Progress
from polymodal.core.registry import find
from polymodal.data.leakage import shared_between, shared_items
from polymodal.data.partition import Part, groups_of
from polymodal.data.store.items import Prepared
from polymodal.data.table.cell_errors import Faults
from polymodal.data.table.table import Table
from polymodal.evaluation.data_sets import score_data_sets
from polymodal.evaluation.evaluate import Scores, add_alone, details, evaluate_network
from polymodal.evaluation.objectives import score_learned
from polymodal.experiments.estimate import describe_trainable
from polymodal.experiments.self_training import told as told_of_labels
from polymodal.experiments.self_training import train_in_rounds
from polymodal.experiments.teacher import saved_teacher
from polymodal.inference.inference import PREDICTION_BATCH, Decisions, decide
from polymodal.model.model import Model, make_network
from polymodal.nn.network import Network
from polymodal.preparation.feature_cache import input_features
from polymodal.preparation.preparation import Preparation, PreparedTable
from polymodal.recipe.recipe import Recipe
from polymodal.runtime.compute import keep_freed_memory
from polymodal.training.distillation import Lessons
from polymodal.training.optimiser import freeze_parts
from polymodal.training.source_model import Start
from polymodal.training.state import Split
from polymodal.training.trainer import Trainer
from polymodal.training.weight_transfer import carry, planned

#: By the identity of prepared items, what settled them, and whether there are changed copies: the items (held, so that
#: their identity stays theirs) and their features.
Features = dict[tuple[int, str, bool], tuple[Prepared, Prepared]]


@dataclass
class Experiment:
    """A fitted preparation and its prepared parts (`train`, `valid`, perhaps `test`).

    teacher: the same with the privileged inputs, where the recipe has any; this experiment is then without them
    cache: where features are kept for other runs; None keeps them in memory
    features: those that are open already, by input and what settled them
    """

    recipe: Recipe
    preparation: Preparation
    parts: dict[str, Part]
    splits: dict[str, Split]
    faults: Faults
    scores: dict[str, Scores] = field(default_factory=dict)
    detail: dict[str, Any] = field(default_factory=dict)
    decisions: dict[str, dict[str, Decisions]] = field(default_factory=dict)
    teacher: Experiment | None = None
    cache: Path | None = None
    features: Features = field(default_factory=dict)


def prepare_experiment(
    recipe: Recipe, parts: dict[str, Part], *, folder: Path, cache: Path | None, progress: Progress
) -> Experiment:
    """Fit the preparation on the training part alone, then prepare every table once. What is carried over from a saved
    model (`training.start`) is prepared as there.

    folder: for prepared tensors; cache: for decoded media
    """
    preparation, start = Preparation(recipe), Start.of(recipe)
    known = start.prepare(preparation) if start is not None else []
    with progress.task("learn vocabularies and statistics", None):
        preparation.fit(parts["train"].table, parts["train"].rows, cache=cache, known=known)
    if start is not None:
        start.adopt_tasks(preparation)
    faults = Faults(recipe.data.strict)
    kept = [name for name in recipe.inputs if name not in recipe.privileged]
    if recipe.privileged and recipe.training.distillation.teacher is not None:
        raise RecipeError("training.distillation.teacher", "privileged inputs have a teacher of their own; drop one")
    bare = preparation if len(kept) == len(recipe.inputs) else preparation.only(recipe.only(kept))
    _check_teachable(recipe, parts["valid"].table)
    tables: dict[int, PreparedTable] = {}
    for name, part in parts.items():
        if id(part.table) not in tables:
            used = preparation if name != "test" else bare
            with progress.task(f"prepare {part.table.name}", len(part.table)) as advance:
                place = folder / f"table-{name}"
                tables[id(part.table)] = used.prepare(part.table, faults, folder=place, cache=cache, advance=advance)
    splits = {name: Split(tables[id(part.table)], part.rows) for name, part in parts.items()}
    experiment = Experiment(recipe, preparation, parts, splits, faults, cache=cache)
    return experiment if bare is preparation else _without_privileged(experiment, kept)


def _check_teachable(recipe: Recipe, valid: Table) -> None:
    """Raises DataError where the rows on which a teacher chooses its weights lack a privileged column."""
    for name in recipe.privileged:
        for column in recipe.inputs[name].columns:
            if column not in valid.columns:
                raise DataError(
                    f"the validation rows lack this column of the privileged input {name!r}, which the teacher reads; "
                    "give no validation table, and rows of the training table are split off for it",
                    column=column,
                    file=valid.name,
                )


def _without_privileged(teacher: Experiment, kept: list[str]) -> Experiment:
    """The experiment of the model that does without the privileged inputs; the one with them is its teacher."""
    recipe = teacher.recipe.only(kept)
    splits = {part: Split(split.prepared.only(kept), split.rows) for part, split in teacher.splits.items()}
    preparation = teacher.preparation.only(recipe)
    return Experiment(
        recipe,
        preparation,
        teacher.parts,
        splits,
        teacher.faults,
        teacher=teacher,
        cache=teacher.cache,
        features=teacher.features,
    )


def feature_splits(experiment: Experiment, network: Network, progress: Progress) -> dict[str, Split]:
    """The parts with features in place of the items of every input whose encoder has settled layers: what those make
    of each item is computed once (see `features`). Where the recipe switches that off, the parts as they are."""
    options = experiment.recipe.training.features
    if not options.cache:
        return experiment.splits
    training = experiment.splits["train"].prepared.inputs if "train" in experiment.splits else {}
    tables = {id(split.prepared): split.prepared for split in experiment.splits.values()}
    found = {key: _with_features(experiment, network, prepared, training, progress) for key, prepared in tables.items()}
    return {name: Split(found[id(split.prepared)], split.rows) for name, split in experiment.splits.items()}


def _with_features(
    experiment: Experiment,
    network: Network,
    prepared: PreparedTable,
    training: Mapping[str, Prepared],
    progress: Progress,
) -> PreparedTable:
    inputs = dict(prepared.inputs)
    said = experiment.recipe.training.threads
    threads = said if isinstance(said, int) else None
    raw = network.raw_inputs()
    for name, encoder in network.encoders().items():
        source, settled = prepared.inputs.get(name), encoder.settled()
        if source is None or settled is None or name in raw:
            continue
        views = source is training.get(name)
        key = (id(source), settled.name, views)
        if key not in experiment.features:
            with progress.task(f"encode {name}", len(source.items)) as advance:
                found = input_features(
                    encoder,
                    experiment.preparation.modalities[name],
                    source,
                    experiment.recipe.training.features,
                    experiment.recipe.data.limits,
                    folder=experiment.cache,
                    views=views,
                    threads=threads,
                    advance=advance,
                )
            experiment.features[key] = (source, found or source)
        inputs[name] = experiment.features[key][1]
    return replace(prepared, inputs=inputs)


def train_model(
    experiment: Experiment,
    *,
    folder: Path | None = None,
    memory: Path | None = None,
    resume: bool = False,
    progress: Progress,
    title: str = "train",
    tell: bool = False,
) -> Model:
    """Train a network on the experiment's training part and choose its weights on the validation part.

    With privileged inputs, a teacher that sees them is trained first, and the model learns from its decisions too; or
    the teacher is a saved model.
    The caller's random state is left as it was; the returned recipe says how it was computed.

    tell: say before training how much of the network learns, where not all of it does
    """
    keep_freed_memory()
    lessons: Lessons | None = None
    taught: dict[str, Any] = {}
    if experiment.teacher is not None:
        place = folder / "teacher" if folder else None
        lessons, taught = _teach(experiment.teacher, place, memory, resume, progress)
    elif experiment.recipe.training.distillation.teacher is not None:
        part, options = experiment.parts["train"], experiment.recipe.training.distillation
        with progress.task("ask the teacher", None):
            lessons, taught = saved_teacher(options, part.table, part.rows, experiment.preparation.tasks)
    recipe, preparation = experiment.recipe, experiment.preparation
    start = Start.of(recipe)
    seconds: list[float] = []

    def train_once(scheduled: Recipe, train: Split, place: Path | None, title: str) -> Trainer:
        torch.manual_seed(recipe.seed)
        network = make_network(recipe, preparation, pretrained=True, known=planned(start, preparation))
        if start is not None:
            carried = carry(start, network, preparation)
            taught["start"] = carried.facts()
            if tell and place == folder:
                progress.say(carried.told())
        freeze_parts(network, recipe.training)
        if tell and place == folder and any(not parameter.requires_grad for parameter in network.parameters()):
            progress.say(describe_trainable(network))
        splits = feature_splits(replace(experiment, splits=experiment.splits | {"train": train}), network, progress)
        with progress.task(title, 1) as advance:
            trainer = Trainer(
                scheduled,
                network,
                experiment.preparation,
                splits["train"],
                splits["valid"],
                lessons=lessons,
                folder=place,
                memory=memory,
                resume=resume,
                watch=advance.status,
            )
            history = trainer.run()
            seconds.append(history.seconds)
            best = trainer.best.epochs[0]
            advance.status(history.steps, history.steps, f"{len(history.epochs)} epochs, best {best}")
        return trainer

    with torch.random.fork_rng(devices=[]):
        train = experiment.splits["train"]
        if recipe.training.pseudo_labels.rounds == 0:
            trainer = train_once(recipe, train, folder, title)
        else:
            part, alone = experiment.parts["train"], lessons is None and not recipe.objectives
            trainer, given = train_in_rounds(
                train_once, recipe, preparation, part, train, folder=folder, alone=alone, title=title
            )
            taught |= given
    history, network = trainer.history, trainer.network
    told = [told_of_labels(taught["pseudo_labels"])] if "pseudo_labels" in taught else []
    training = recipe.training.model_copy(
        update={"precision": trainer.machine.precision, "threads": trainer.machine.threads}
    )
    resolved = recipe.model_copy(update={"training": training})
    run = {
        "seconds": {"training": round(sum(seconds), 3)},
        "machine": vars(trainer.machine),
        "steps": history.steps,
        "rows_per_second": round(history.rows / max(history.seconds, 1e-9), 1),
        "averaged_epochs": history.averaged,
        "notices": [*history.notices, *told],
        "history": history.epochs,
        **taught,
    }
    return Model(resolved, experiment.preparation, network, run=run)


def _teach(
    teacher: Experiment, folder: Path | None, memory: Path | None, resume: bool, progress: Progress
) -> tuple[Lessons, dict[str, Any]]:
    """Train the teacher; what it decides for the training rows, and what the run records of it."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "recipe.yaml").write_text(teacher.recipe.to_yaml(), encoding="utf-8")
    model = train_model(teacher, folder=folder, memory=memory, resume=resume, progress=progress, title="train teacher")
    split, machine = feature_splits(teacher, model.network, progress)["train"], model.machine
    decisions = decide(
        model.network, teacher.preparation, split.prepared, split.rows, machine=machine, batch=PREDICTION_BATCH
    )
    record = {"privileged": teacher.recipe.privileged, "history": model.run["history"]}
    return Lessons.of(decisions, split.rows, teacher.recipe.training.distillation), {"teacher": record}


def score_model(experiment: Experiment, model: Model, *, memory: Path | None, progress: Progress) -> None:
    """Score the model on the validation and test parts, beside floors and each input alone."""
    shown = [name for name in ("valid", "test") if name in experiment.splits]
    options = model.recipe.evaluation
    splits = feature_splits(experiment, model.network, progress)
    for name in shown:
        split = splits[name]
        with progress.task(f"score {name}", None):
            scores, decisions = evaluate_network(
                model.network,
                experiment.preparation,
                split.prepared,
                split.rows,
                machine=model.machine,
                options=options,
                seed=model.recipe.seed,
                groups=groups_of(model.recipe, experiment.parts[name]),
            )
        scores |= score_learned(
            model.network,
            experiment.preparation,
            split.prepared,
            split.rows,
            recipe=model.recipe,
            machine=model.machine,
            groups=groups_of(model.recipe, experiment.parts[name]),
        )
        experiment.scores[name], experiment.decisions[name] = scores, decisions
        experiment.detail[name] = details(experiment.preparation, decisions, split.prepared, split.rows)
        apart = score_data_sets(
            experiment.preparation,
            decisions,
            split.prepared,
            split.rows,
            experiment.parts[name].table.data_sets,
            options,
            seed=model.recipe.seed,
            groups=groups_of(model.recipe, experiment.parts[name]),
        )
        if apart:
            model.run.setdefault("data_sets", {})[name] = apart
    if options.singles == "train" and len(model.recipe.inputs) > 1 and model.recipe.outputs:
        for input_name in model.recipe.inputs:
            _score_alone(experiment, model, input_name, shown, memory, progress)
    model.metrics = dict(experiment.scores)


def shared_between_parts(experiment: Experiment) -> list[dict[str, Any]]:
    """The same image or text in two parts, by input; see `data.duplicates`."""
    tables = {id(split.prepared): split.prepared for split in experiment.splits.values()}
    if len(tables) == 1:
        prepared = next(iter(tables.values()))
        return shared_items(prepared.inputs, {name: split.rows for name, split in experiment.splits.items()})
    return shared_between(
        {
            name: {key: one.rows_of(split.rows) for key, one in split.prepared.inputs.items()}
            for name, split in experiment.splits.items()
        }
    )


def train_alone(
    experiment: Experiment, model: Model, name: str, *, memory: Path | None, progress: Progress
) -> tuple[Experiment, Model]:
    """Train a model on one input alone, with the model's recipe otherwise; the experiment is that input's."""
    recipe = model.recipe.only([name])
    parts = {path: value for path, value in recipe.training.parts.items() if path != "fusion"}
    untaught = recipe.training.distillation.model_copy(update={"teacher": None})
    training = recipe.training.model_copy(update={"parts": parts, "distillation": untaught})
    recipe = recipe.model_copy(update={"fusion": find("fusion", "concat").Options(), "training": training})
    preparation = experiment.preparation.only(recipe)
    splits = {part: Split(split.prepared.only([name]), split.rows) for part, split in experiment.splits.items()}
    alone = Experiment(
        recipe,
        preparation,
        experiment.parts,
        splits,
        experiment.faults,
        cache=experiment.cache,
        features=experiment.features,
    )
    return alone, train_model(alone, memory=memory, progress=progress, title=f"train {name} alone")


def _score_alone(
    experiment: Experiment, model: Model, name: str, shown: Sequence[str], memory: Path | None, progress: Progress
) -> None:
    """Put the scores of one input alone beside the model's."""
    alone, single = train_alone(experiment, model, name, memory=memory, progress=progress)
    splits = feature_splits(alone, single.network, progress)
    for part in shown:
        split, machine = splits[part], single.machine
        decisions = decide(
            single.network, alone.preparation, split.prepared, split.rows, machine=machine, batch=PREDICTION_BATCH
        )
        add_alone(experiment.scores[part], name, alone.preparation, decisions, split.prepared, split.rows)


def fingerprints(parts: dict[str, Part]) -> dict[str, str]:
    """A content hash of each distinct table, by its name."""
    tables: dict[str, Table] = {part.table.name: part.table for part in parts.values()}
    return {name: table.fingerprint() for name, table in tables.items()}
