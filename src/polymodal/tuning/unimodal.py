"""Unimodal networks: the best recipes of a search, reduced to one input."""

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
from polymodal.tuning.trial import TrialLimits, TrialRunner, run_trial

#: Number of networks per input.
NUM_NETWORKS = 3
#: Options of the adapters, with the learning rate of the head.
ADAPTER_OPTIONS = {"fine_tuning": "lora", "lr_multiplier": 1.0}
LABEL_SMOOTHING, MAX_HIDDEN_SIZE = 0.1, 1024
#: Number of networks with adapters per text input.
NUM_ADAPTED = 2
#: Maximum number of rows for adapters, which are slow.
MAX_ADAPTED_ROWS = 5_000
ADAPTER_TRAINING = {
    "epochs": 12,
    "batch_size": 16,
    "early_stopping_patience": 12,
    "learning_rate": 1e-3,
    "weight_decay": 0.1,
}


def run_unimodal(
    trials: Sequence[Candidate],
    runner: TrialRunner,
    folder: Path,
    *,
    deadline: float | None,
    log: Callable[[str], None],
) -> list[Candidate]:
    """Run unimodal networks. For each input, the recipes of the best trials are reduced to this input, without
    duplicates. For text inputs with a frozen pretrained encoder, the best recipes are also run with adapters.

    trials: trials that were run on every fold, best first
    folder: folder of the results, so that a resumed search does not run them again
    deadline: networks that would end after it (`time.time()`) are skipped; one that runs is stopped at it
    """
    candidates = []
    networks = [one for one in trials if not (one.recipe or {}).get("members")]
    for title, recipe in _plan(networks, runner):
        stem = title.replace(": ", "-", 1).encode().hex()[:80]
        if (folder / f"{stem}.json").is_file():
            candidates.append(Candidate.load(folder, stem))
            continue
        try:
            on_fold = _deadline_callback(deadline, len(runner.folds))
            one = replace(run_trial(runner, recipe, title, on_fold, TrialLimits(deadline)), kind="unimodal")
        except PolymodalError as error:
            log(f"{title} did not finish: {error}")
            continue
        log(f"{title}: {one.score:.4f} in {one.seconds:.1f} s")
        one.save(folder, stem)
        candidates.append(one)
    return candidates


def _deadline_callback(deadline: float | None, folds: int) -> Callable[[Candidate], None]:
    def on_fold(one: Candidate) -> None:
        if deadline is not None and time.time() + one.seconds / one.num_folds * (folds - one.num_folds) > deadline:
            raise TrainingError("the time limit would be exceeded")

    if deadline is not None and time.time() > deadline:
        raise TrainingError("the time limit would be exceeded")
    return on_fold


def _plan(trials: Sequence[Candidate], runner: TrialRunner) -> list[tuple[str, Recipe]]:
    """The networks to run, in order: the best network of each input, adapters, then other networks of each input."""
    names = [name for name in runner.folds.recipe.inputs if name not in runner.folds.recipe.privileged]
    if len(names) < 2:
        return []
    recipes = {name: _unimodal_recipes(trials, name)[:NUM_NETWORKS] for name in names}
    plan = [(f"network 1: {name}", unimodal[0]) for name, unimodal in recipes.items() if unimodal]
    for name, unimodal in recipes.items():
        few = len(runner.folds.table) <= MAX_ADAPTED_ROWS
        stored = runner.folds.stored
        has_items = stored is None or name not in stored.features  # adapters change the frozen layers
        frozen = [one for one in unimodal if few and has_items and _adaptable(one.inputs[name])]
        plan += [
            (f"adapters {index + 1}: {name}", _with_adapters(one, name))
            for index, one in enumerate(frozen[:NUM_ADAPTED])
        ]
    for index in range(1, NUM_NETWORKS):
        plan += [
            (f"network {index + 1}: {name}", unimodal[index])
            for name, unimodal in recipes.items()
            if index < len(unimodal)
        ]
    return plan


def _adaptable(spec: InputSpec) -> bool:
    options = spec.encoder
    return options is not None and options.name == "pretrained_text" and getattr(options, "fine_tuning", "") == "freeze"


def _with_adapters(recipe: Recipe, name: str) -> Recipe:
    """The recipe with LoRA adapters, trained with the learning rate of the head for a few epochs with small batches.
    The hidden size is that of the checkpoint, so that its pooled output is not compressed before the wide head."""
    spec = recipe.inputs[name]
    assert spec.encoder is not None
    checkpoint_options = {key: getattr(spec.encoder, key) for key in ("name", "checkpoint", "max_tokens")}
    encoder = type(spec.encoder)(**checkpoint_options, **ADAPTER_OPTIONS)
    training = recipe.training.model_copy(update={**ADAPTER_TRAINING, "precision": "auto", "num_threads": "auto"})
    outputs = {
        key: one.model_copy(update={"task": _with_smoothing(one.task), "decoder": _with_wide_head(one.decoder)})
        for key, one in recipe.outputs.items()
    }
    inputs = {name: spec.model_copy(update={"encoder": encoder})}
    unimodal = read_checkpoint_config(checkpoint_options["checkpoint"], "text").config.get("hidden_size")
    width = unimodal if isinstance(unimodal, int) and unimodal <= MAX_HIDDEN_SIZE else recipe.hidden_size
    return recipe.model_copy(update={"inputs": inputs, "outputs": outputs, "training": training, "hidden_size": width})


def _with_smoothing(task: Options | None) -> Options | None:
    if task is None or getattr(task, "label_smoothing", None) != 0:
        return task
    return task.model_copy(update={"label_smoothing": LABEL_SMOOTHING})


def _with_wide_head(decoder: Options | None) -> Options | None:
    return type(decoder)(**WIDE_HEAD) if decoder is not None and decoder.name == WIDE_HEAD["name"] else decoder


def best_unimodal(candidates: Sequence[Candidate], folds: Folds, *, size: int = 6) -> list[Candidate]:
    """For each input with several unimodal candidates, their best ensemble as one candidate, `best of: NAME`. It is the
    reference that a multimodal model must beat. It is not a model, because baselines can be among its members."""
    best = []
    for name in folds.recipe.inputs:
        unimodal = [
            one
            for one in candidates
            if _single_input(one) == name and one.num_folds == len(folds) and np.isfinite(one.score)
        ]
        if len(unimodal) < 2:
            continue
        members, _, distributions = greedy_ensemble(unimodal, folds, size=size)
        best.append(
            replace(
                members[0],
                name=f"best of: {name}",
                kind="unimodal",
                recipe=None,
                distributions=distributions,
                score=folds.score(distributions),
                metrics=folds.metrics(distributions),
                fold_scores=folds.fold_scores(distributions),
                seconds=round(sum(one.seconds for one in unimodal), 3),
                num_parameters=sum(one.num_parameters for one in members),
                size_mib=round(sum(one.size_mib for one in members), 3),
                latency_ms=None,
            )
        )
    return best


def _single_input(one: Candidate) -> str | None:
    """The only input of a candidate; None if it has several or none."""
    input_key = baseline_inputs(one.name) if one.kind == "baseline" else list((one.recipe or {"inputs": {}})["inputs"])
    return input_key[0] if len(input_key) == 1 else None


def _unimodal_recipes(trials: Sequence[Candidate], name: str) -> list[Recipe]:
    """The recipes of the trials, reduced to this input, best first and without duplicates. Recipes with different
    encoders come before other settings of the same encoder."""
    recipes: dict[str, tuple[str, Recipe]] = {}
    for one in trials:
        full = Recipe.read(dict(one.recipe or {}))
        reduced = full.with_inputs([name])
        parts = {path: value for path, value in reduced.training.param_groups.items() if path != "fusion"}
        training = reduced.training.model_copy(update={"param_groups": parts, "modality_dropout": 0.0})
        reduced = reduced.model_copy(update={"fusion": find("fusion", "concat").Options(), "training": training})
        spec: Any = reduced.to_dict()
        input_key = json.dumps(spec["inputs"], sort_keys=True)
        recipes.setdefault(json.dumps(spec, sort_keys=True), (input_key, reduced))
    seen: set[str] = set()
    first: list[Recipe] = []
    later: list[Recipe] = []
    for input_key, reduced in recipes.values():
        (later if input_key in seen else first).append(reduced)
        seen.add(input_key)
    return [*first, *later]
