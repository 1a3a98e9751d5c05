"""Every component on the device against the CPU: the loss and the gradients of one batch in fp32, and one in bf16."""

from __future__ import annotations

import copy
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.gpu.clock import Budget
from benchmarks.same_weights.cases import Case, all_cases
from polymodal.core.progress import Progress
from polymodal.core.types import Batch
from polymodal.experiments.arguments import open_tables
from polymodal.experiments.experiment import Experiment, prepare_experiment
from polymodal.model.make_network import make_network
from polymodal.nn.network import Network
from polymodal.nn.objectives.base import ObjectiveBatch
from polymodal.recipe.recipe import Recipe
from polymodal.runtime.compute import ComputeConfig, has_bf16
from polymodal.training.loss import Loss
from polymodal.workflows.fit import plan_run

ROWS = 32


def compare_all(data: Path, work: Path, device: str, budget: Budget, *, few: bool) -> list[dict[str, Any]]:
    """The comparison of each component, by the cases of `benchmarks.same_weights`.

    data: the folder of their tables
    few: every tenth case only
    """
    found = []
    for case in _single_runs()[:: 10 if few else 1]:
        missing = [module for module in case.needs if find_spec(module) is None]
        if missing or budget.is_over(0.55):
            reason = f"needs {missing[0]}" if missing else "no time left"
            found.append({"case": case.name, "left_out": reason})
            continue
        try:
            found.append(_compare(case, data, work / str(len(found)), device))
        except Exception as error:  # noqa: BLE001  # an error is the result of its case
            found.append({"case": case.name, "error": f"{type(error).__name__}: {error}".splitlines()[0]})
    return found


def _single_runs() -> list[Case]:
    """The cases that train one network on one table, without another model."""
    return [
        case
        for case in all_cases()
        if case.function in ("fit", "pretrain")
        and case.start is None
        and isinstance(case.table, str)
        and isinstance(case.recipe, dict)
        and not case.files
    ]


def _compare(case: Case, data: Path, folder: Path, device: str) -> dict[str, Any]:
    values: dict[str, Any] = dict(case.recipe)  # type: ignore[arg-type]  # a mapping, as `_single_runs` checks
    training = {key: value for key, value in values["training"].items() if key != "feature_cache"}
    recipe = Recipe(**values | {"training": training})  # features are not cached: their layers run on the device
    tables = open_tables(data / str(case.table))
    plan, splits = plan_run(recipe, tables, [], pretraining=case.function == "pretrain")
    experiment = prepare_experiment(plan.recipe, splits, folder=folder, cache=None, progress=Progress(False))
    torch.manual_seed(0)
    network = make_network(plan.recipe, experiment.preparation, pretrained=True).eval()
    expected = _gradients(experiment, network, "cpu")
    moved = copy.deepcopy(network).to(device)
    own = _gradients(experiment, moved, device)
    size = max(float(torch.stack([one.norm() for one in expected]).norm()), 1e-6)
    apart = torch.stack([(one.cpu() - other).norm() for one, other in zip(own, expected, strict=True)])
    result = {"case": case.name, "relative_difference": float(apart.norm()) / size}
    if has_bf16(device):
        with ComputeConfig("bf16", 1, device=device).active():
            reduced = _gradients(experiment, moved.train(), device)
        result["bf16_is_finite"] = all(bool(torch.isfinite(one).all()) for one in reduced)
    return result


def _gradients(experiment: Experiment, network: Network, device: str) -> list[Tensor]:
    """The loss, and the gradients of all parameters."""
    preparation, split = experiment.preparation, experiment.splits["train"]
    rows = split.rows[:ROWS]

    def batch(*, augment: bool = False) -> Batch:
        return preparation.batch(split.table, rows, augment=augment).to(device)

    torch.manual_seed(1)
    network.zero_grad()
    whole = batch()
    outputs = network(whole) if preparation.tasks else {}
    tokens = network.encode(whole).tokens
    terms = network.objective_losses(ObjectiveBatch(network, whole, tokens, partial(batch, augment=True), 0.5))
    weights = dict.fromkeys([*preparation.tasks, *network.objectives], 1.0)
    total = Loss(preparation.tasks, weights, "fixed").to(device)(outputs, whole, terms).total
    total.backward()
    zero = np.float32(0)
    return [
        total.detach(),
        *(torch.full_like(one, zero) if one.grad is None else one.grad for one in network.parameters()),
    ]
