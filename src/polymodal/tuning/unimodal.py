"""How well each input does by itself when it gets the best of everything that was tried."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from polymodal.core.errors import PolymodalError, TrainingError
from polymodal.core.options import Options
from polymodal.core.registry import find
from polymodal.pretrained.resolve import read_checkpoint_config
from polymodal.recipe.recipe import InputSpec, Recipe
from polymodal.tuning.baselines import baseline_inputs
from polymodal.tuning.candidate import Candidate
from polymodal.tuning.default_space import WIDE_HEAD
from polymodal.tuning.folds import Folds
from polymodal.tuning.selection import greedy_ensemble
from polymodal.tuning.trial import TrialRunner, run_trial

#: Networks that are tried on each input alone.
NUM_NETWORKS = 3
#: How adapters are trained: their own learning rate is that of the head.
ADAPTER_OPTIONS = {"fine_tuning": "lora", "lr_multiplier": 1.0}
LABEL_SMOOTHING, MAX_HIDDEN_SIZE = 0.1, 1024
#: Networks with adapters of each text.
NUM_ADAPTED = 2
#: Of more rows than this, adapters would take the whole time.
MAX_ADAPTED_ROWS = 5_000
ADAPTER_TRAINING = {"epochs": 12, "batch_size": 16, "early_stopping_patience": 12, "learning_rate": 1e-3, "weight_decay": 0.1}


def run_unimodal(
    trials: Sequence[Candidate],
    bench: TrialRunner,
    folder: Path,
    *,
    deadline: float | None,
    say: Callable[[str], None],
) -> list[Candidate]:
    """Networks of one input: for each input the best trials' recipes, reduced to it, as long as they differ; and for
    each text with a frozen checkpoint the best of them with adapters in its layers, which short texts can afford.

    trials: those that were run on every fold, the best first
    folder: where they are kept, so that a search that is gone on with does not run them again
    deadline: what cannot end before it (`time.time()`) is given up
    """
    found = []
    for title, recipe in _plan(trials, bench):
        stem = title.replace(": ", "-", 1).encode().hex()[:80]
        if (folder / f"{stem}.json").is_file():
            found.append(Candidate.load(folder, stem))
            continue
        try:
            watch = _deadline_callback(deadline, len(bench.folds))
            one = replace(run_trial(bench, recipe, title, watch), kind="single")
        except PolymodalError as error:
            say(f"{title} was not run to its end: {error}")
            continue
        say(f"{title}: {one.score:.4f} in {one.seconds:.1f} s")
        one.save(folder, stem)
        found.append(one)
    return found


def _deadline_callback(deadline: float | None, folds: int) -> Callable[[Candidate], None]:
    def watch(one: Candidate) -> None:
        if deadline is not None and time.time() + one.seconds / one.num_folds * (folds - one.num_folds) > deadline:
            raise TrainingError("there is no time for it")

    if deadline is not None and time.time() > deadline:
        raise TrainingError("there is no time for it")
    return watch


def _plan(trials: Sequence[Candidate], bench: TrialRunner) -> list[tuple[str, Recipe]]:
    """What is tried, in order: the best network of each input, adapters, then other networks of each input."""
    names = [name for name in bench.folds.recipe.inputs if name not in bench.folds.recipe.privileged]
    if len(names) < 2:
        return []
    recipes = {name: _unimodal_recipes(trials, name)[:NUM_NETWORKS] for name in names}
    planned = [(f"network 1: {name}", own[0]) for name, own in recipes.items() if own]
    for name, own in recipes.items():
        few = len(bench.folds.table) <= MAX_ADAPTED_ROWS
        frozen = [one for one in own if few and _adaptable(one.inputs[name])]
        planned += [
            (f"adapters {place + 1}: {name}", _with_adapters(one, name)) for place, one in enumerate(frozen[:NUM_ADAPTED])
        ]
    for place in range(1, NUM_NETWORKS):
        planned += [(f"network {place + 1}: {name}", own[place]) for name, own in recipes.items() if place < len(own)]
    return planned


def _adaptable(spec: InputSpec) -> bool:
    options = spec.encoder
    return options is not None and options.name == "pretrained_text" and getattr(options, "fine_tuning", "") == "freeze"


def _with_adapters(recipe: Recipe, name: str) -> Recipe:
    """The recipe with low-rank adapters that learn as fast as the head, in few epochs of small steps; at the
    checkpoint's own width, so that nothing of its summary is lost before the head, which is wide and forgets much."""
    spec = recipe.inputs[name]
    assert spec.encoder is not None
    given = {key: getattr(spec.encoder, key) for key in ("name", "checkpoint", "max_tokens")}
    encoder = type(spec.encoder)(**given, **ADAPTER_OPTIONS)
    training = recipe.training.model_copy(update={**ADAPTER_TRAINING, "precision": "auto", "num_threads": "auto"})
    outputs = {
        key: one.model_copy(update={"task": _with_smoothing(one.task), "decoder": _with_wide_head(one.decoder)})
        for key, one in recipe.outputs.items()
    }
    inputs = {name: spec.model_copy(update={"encoder": encoder})}
    own = read_checkpoint_config(given["checkpoint"], "text").config.get("hidden_size")
    width = own if isinstance(own, int) and own <= MAX_HIDDEN_SIZE else recipe.hidden_size
    return recipe.model_copy(update={"inputs": inputs, "outputs": outputs, "training": training, "hidden_size": width})


def _with_smoothing(task: Options | None) -> Options | None:
    if task is None or getattr(task, "label_smoothing", None) != 0:
        return task
    return task.model_copy(update={"label_smoothing": LABEL_SMOOTHING})


def _with_wide_head(decoder: Options | None) -> Options | None:
    return type(decoder)(**WIDE_HEAD) if decoder is not None and decoder.name == WIDE_HEAD["name"] else decoder


def best_unimodal(candidates: Sequence[Candidate], folds: Folds, *, size: int = 6) -> list[Candidate]:
    """For each input that several candidates read alone, their best ensemble as one candidate, `best of: NAME`: what a
    multimodal model must beat. It is a yardstick, not a model: baselines are among its members."""
    found = []
    for name in folds.recipe.inputs:
        own = [one for one in candidates if _single_input(one) == name and one.num_folds == len(folds) and np.isfinite(one.score)]
        if len(own) < 2:
            continue
        members, _, distributions = greedy_ensemble(own, folds, size=size)
        found.append(
            replace(
                members[0],
                name=f"best of: {name}",
                kind="single",
                recipe=None,
                distributions=distributions,
                score=folds.score(distributions),
                metrics=folds.metrics(distributions),
                fold_scores=folds.fold_scores(distributions),
                seconds=round(sum(one.seconds for one in own), 3),
                parameters=sum(one.num_parameters for one in members),
                size_mib=round(sum(one.size_mib for one in members), 3),
                latency_ms=None,
            )
        )
    return found


def _single_input(one: Candidate) -> str | None:
    """The only input that a candidate reads; None if there are several or none."""
    read = baseline_inputs(one.name) if one.kind == "baseline" else list((one.recipe or {"inputs": {}})["inputs"])
    return read[0] if len(read) == 1 else None


def _unimodal_recipes(trials: Sequence[Candidate], name: str) -> list[Recipe]:
    """The trials' recipes with this input alone, best first and each once; those of other encoders come before other
    settings of the same."""
    recipes: dict[str, tuple[str, Recipe]] = {}
    for one in trials:
        whole = Recipe.read(dict(one.recipe or {}))
        only = whole.only([name])
        parts = {path: value for path, value in only.training.param_groups.items() if path != "fusion"}
        training = only.training.model_copy(update={"param_groups": parts, "modality_dropout": 0.0})
        only = only.model_copy(update={"fusion": find("fusion", "concat").Options(), "training": training})
        spec: Any = only.to_dict()
        read = json.dumps(spec["inputs"], sort_keys=True)
        recipes.setdefault(json.dumps(spec, sort_keys=True), (read, only))
    seen: set[str] = set()
    first: list[Recipe] = []
    later: list[Recipe] = []
    for read, only in recipes.values():
        (later if read in seen else first).append(only)
        seen.add(read)
    return [*first, *later]
