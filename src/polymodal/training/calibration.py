"""Calibration of a decision-level fusion after training."""

from __future__ import annotations

import torch

from polymodal.data.partition import Split
from polymodal.inference.predictor import Predictor
from polymodal.nn.network import Network
from polymodal.preparation.preparation import Preparation, PreparedTable
from polymodal.runtime.compute import ComputeConfig


def calibrate_fusion(network: Network, preparation: Preparation, validation: Split[PreparedTable], device: str) -> None:
    """Fit the combination of a decision-level fusion on the validation rows."""
    rows = validation.rows
    exact = Predictor(network, preparation, ComputeConfig(device=device), 512)
    predictions = exact.predict(validation, with_texts=False)
    for name, task in preparation.tasks.items():
        if task.is_generative:  # text branches are combined by their weights only
            continue
        value, present = validation.table.targets[name]
        known = torch.from_numpy(present[rows])
        target = torch.from_numpy(value[rows])[known]
        branches = {branch: values[known] for branch, values in predictions[name].branches.items()}
        weights = {branch: predictions[name].branch_weights[branch][known] for branch in branches}
        if branches and len(target):
            network.fusion.calibrate(
                branches,
                weights,
                lambda values, task=task, target=target: task.loss(values, target).mean(),  # type: ignore[misc]
                task.space,
                name,
            )
