"""How well each input does by itself when it gets the best of everything that was tried."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from polymodal.errors import PolymodalError
from polymodal.recipe.recipe import Recipe
from polymodal.registry import find
from polymodal.tuning.baselines import inputs_of
from polymodal.tuning.candidate import Candidate
from polymodal.tuning.folds import Folds
from polymodal.tuning.selection import combine
from polymodal.tuning.trial import Bench, run_trial

#: Networks that are tried on each input alone.
NETWORKS = 3


def run_alone(
    trials: Sequence[Candidate],
    bench: Bench,
    folder: Path,
    *,
    deadline: float | None,
    say: Callable[[str], None],
) -> list[Candidate]:
    """Networks of one input: for each input the best trials' recipes, reduced to it, as long as they differ.

    trials: those that were run on every fold, the best first
    folder: where they are kept, so that a search that is gone on with does not run them again
    deadline: none is begun that would end after it (`time.time()`)
    """
    found = []
    slowest = 0.0
    names = list(bench.folds.recipe.only([n for n in bench.folds.recipe.inputs if not _privileged(bench, n)]).inputs)
    for place in range(NETWORKS):
        for name in names if len(names) > 1 else []:
            recipes = _reduced(trials, name)
            if place >= len(recipes):
                continue
            title = f"network {place + 1}: {name}"
            stem = f"{names.index(name)}-{place}"
            if (folder / f"{stem}.json").is_file():
                found.append(Candidate.load(folder, stem))
                continue
            if deadline is not None and time.time() + slowest > deadline:
                continue
            begun = time.perf_counter()
            try:
                one = replace(run_trial(bench, recipes[place], title, lambda _: None), kind="single")
            except PolymodalError as error:
                say(f"{title} could not be run: {error}")
                continue
            slowest = max(slowest, time.perf_counter() - begun)
            say(f"{title}: {one.score:.4f} in {one.seconds:.1f} s")
            one.save(folder, stem)
            found.append(one)
    return found


def best_alone(candidates: Sequence[Candidate], folds: Folds, *, size: int = 6) -> list[Candidate]:
    """For each input that several candidates read alone, their best ensemble as one candidate, `best of: NAME`: what a
    multimodal model must beat. It is a yardstick, not a model: baselines are among its members."""
    found = []
    for name in folds.recipe.inputs:
        own = [one for one in candidates if _reads(one) == name and one.folds == len(folds) and np.isfinite(one.score)]
        if len(own) < 2:
            continue
        members, _, distributions = combine(own, folds, size=size)
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
                parameters=sum(one.parameters for one in members),
                size_mib=round(sum(one.size_mib for one in members), 3),
                latency_ms=None,
            )
        )
    return found


def _reads(one: Candidate) -> str | None:
    """The only input that a candidate reads; None if there are several or none."""
    read = inputs_of(one.name) if one.kind == "baseline" else list((one.recipe or {"inputs": {}})["inputs"])
    return read[0] if len(read) == 1 else None


def _privileged(bench: Bench, name: str) -> bool:
    return name in bench.folds.recipe.privileged


def _reduced(trials: Sequence[Candidate], name: str) -> list[Recipe]:
    """The trials' recipes with this input alone, best first and each once; those of other encoders come before other
    settings of the same."""
    recipes: dict[str, tuple[str, Recipe]] = {}
    for one in trials:
        whole = Recipe.read(dict(one.recipe or {}))
        only = whole.only([name])
        parts = {path: value for path, value in only.training.parts.items() if path != "fusion"}
        training = only.training.model_copy(update={"parts": parts, "modality_dropout": 0.0})
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
