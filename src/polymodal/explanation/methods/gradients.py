"""Scores of the parts of an item by the gradients of a network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from polymodal.core.errors import RecipeError
from polymodal.core.types import Batch
from polymodal.explanation.methods.part_scores import PartScores
from polymodal.explanation.part_value import PartValue
from polymodal.inference.predictor import Predictor

#: Points on the way from the blank item to the item.
STEPS = 32


def integrated_gradients(value: PartValue) -> PartScores:
    """The integral of the gradient from the item without any part to the item, times their difference, summed over each
    part: Sundararajan, Taly and Yan, "Axiomatic Attribution for Deep Networks", 2017, equation 1, by the midpoint rule
    with 32 points. The scores sum to f(item) - f(blank item), up to the error of the rule."""
    return _path_scores(value, (torch.arange(STEPS) + 0.5) / STEPS)


def gradient_x_input(value: PartValue) -> PartScores:
    """The gradient at the item times its difference to the item without any part, summed over each part: Shrikumar,
    Greenside and Kundaje, "Learning Important Features Through Propagating Activation Differences", 2017, section 2."""
    return _path_scores(value, torch.ones(1))


def _path_scores(value: PartValue, at: Tensor) -> PartScores:
    """The mean gradient at the points `at [n]` (0: the blank item, 1: the item) times the difference of both."""
    predictor, division = value.predictor, value.parts.tensor_parts()
    if not isinstance(predictor, Predictor):
        raise RecipeError(
            "method", "gradients need a model that is one network; use occlusion or shapley, or fit with `members: []`"
        )
    if division is None:
        raise RecipeError("method", f"the prepared items of {value.input!r} have no gradient; use occlusion or shapley")
    name, parts = division
    count = len(at) + 1
    whole, removed = np.ones((count, len(value.parts)), bool), np.zeros((1, len(value.parts)), bool)
    batch = predictor.batch(value.table(value.parts.keep(whole)), np.arange(count))
    without = predictor.batch(value.table(value.parts.keep(removed)), np.arange(1)).inputs[value.input]
    source = batch.inputs[value.input]
    item = source.data[name][:1].float()
    blank = without.data[name][:1].float() if bool(without.present.all()) else torch.zeros_like(item)
    steps = torch.cat([torch.zeros(1), at]).to(item).view(-1, *[1] * (item.dim() - 1))
    points = (blank + steps * (item - blank)).requires_grad_()
    edited = replace(source, data={**source.data, name: points})
    raw, gradient = _raw_and_gradient(predictor, value, replace(batch, inputs={**batch.inputs, value.input: edited}))
    scores = (gradient[1:].mean(dim=0, keepdim=True) * (item - blank).detach()).double().cpu().numpy()
    numbers = np.broadcast_to(parts, scores.shape).reshape(-1)
    values = np.bincount(numbers, scores.reshape(-1), minlength=len(value.parts))
    start = value.explained.of(raw[:1], np.array([value.position]))
    return PartScores(values, blank=float(start[0]))


def _raw_and_gradient(predictor: Predictor, value: PartValue, batch: Batch) -> tuple[Tensor, Tensor]:
    """The raw predictions `[n, k]` of the rows of a batch, and the gradient of the explained number of each row with
    respect to the tensor of the explained input that requires one."""
    (points,) = [one for one in batch.inputs[value.input].data.values() if one.requires_grad]
    network = predictor.network
    was_training = network.training
    network.eval()
    try:
        with torch.enable_grad(), predictor.compute.active():
            raw = network(batch)[value.explained.output].values.float()
            factor = value.explained.slopes(raw.detach(), value.position)
            (gradient,) = torch.autograd.grad((raw * factor).sum(), points, allow_unused=True)
    finally:
        network.train(was_training)
    if gradient is None:
        encoder = type(network.encoders()[value.input]).__name__
        raise RecipeError(
            "method", f"the encoder of {value.input!r} ({encoder}) has no gradient; use occlusion or shapley"
        )
    value.num_predictions += len(raw)
    return raw.detach(), gradient
