"""The behavior of a component as one comparable value: two options with equal signatures have the same effect."""

from __future__ import annotations

import hashlib
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from laws.estimators import SPACES, estimator, folds_of, planted_target, sample_features
from laws.featurizers import MEMBERS, with_features
from laws.objectives import of_objective
from laws.samples import QUICK_TASKS, light, network_of, prepare, sample, sample_table, total_loss, whole_batch
from polymodal.core.registry import find
from polymodal.features.feature_set import FeatureSet
from polymodal.inference.predictor import Predictor
from polymodal.nn.network import Network
from polymodal.preparation.preparation import Preparation, PreparedTable
from polymodal.tasks.generative import GenerativeTask
from polymodal.tasks.image_generation import ImageGenerationTask


def digest(value: Any) -> str:
    """A hash of nested plain values, arrays and tensors, contents and shapes."""
    found = hashlib.sha256()
    _feed(found, value)
    return found.hexdigest()


def _feed(found: Any, value: Any) -> None:
    if isinstance(value, Tensor):
        value = value.detach().float().numpy() if value.dtype == torch.bfloat16 else value.detach().numpy()
    if isinstance(value, np.ndarray):
        found.update(f"{value.dtype} {value.shape}".encode() + np.ascontiguousarray(value).tobytes())
    elif isinstance(value, dict):
        for key in value:
            found.update(f"[{key}]".encode())
            _feed(found, value[key])
    elif isinstance(value, list | tuple):
        found.update(f"({len(value)})".encode())
        for item in value:
            _feed(found, item)
    elif is_dataclass(value):
        _feed(found, {field.name: getattr(value, field.name) for field in fields(value)})
    else:
        found.update(repr(value).encode())


def of_network(**recipe: Any) -> str:
    """Weights, trainable parameters with their learning rates, checkpointed modules, predictions in training (with
    dropout) and in evaluation, the loss with its penalties, and generated texts."""
    columns = recipe.pop("columns")
    preparation, prepared = prepare(columns, **recipe)
    network, batch = network_of(preparation), whole_batch(preparation, prepared)
    found: dict[str, Any] = {"state": network.state_dict(), "learns": learns(network)}
    found["again"] = [name for name, part in network.named_modules() if getattr(part, "gradient_checkpointing", False)]
    for training in (True, False):
        torch.manual_seed(1)
        network.train(training)
        with torch.no_grad():
            found |= {f"{name}{training}": decided for name, decided in network(batch).items()}
            found[f"loss{training}"] = total_loss(preparation, network, batch)
    found["written"] = written(preparation, prepared, network)
    return digest(found)


def written(preparation: Preparation, prepared: PreparedTable, network: Network) -> dict[str, Any]:
    """What every output of texts or images generates, with the generation options of its task."""
    predictor = Predictor(network, preparation)
    found: dict[str, Any] = {}
    for name, task in preparation.tasks.items():
        if isinstance(task, GenerativeTask):
            found[name] = predictor.generate(prepared, name, task.generation_config)
        elif isinstance(task, ImageGenerationTask):
            found[name] = predictor.generate_images(prepared, name, task.options.generation)
    return found


def learns(network: Network) -> dict[str, float]:
    """The learning rate multiplier of every trainable parameter."""
    factors = [part.lr_multipliers() for part in (*network.encoders().values(), *network.all_decoders())]
    return {
        name: next((found[parameter] for found in factors if parameter in found), 1.0)
        for name, parameter in network.named_parameters()
        if parameter.requires_grad
    }


def of_component(kind: str, options: dict[str, Any]) -> str:
    """The signature of a component with these options on its sample data."""
    if kind == "encoder":
        return _of_encoder(options)
    if kind == "modality":
        return _of_modality(options)
    if kind == "task":
        return _of_written(options) if find("task", options["name"]).is_generative else _of_task(options)
    if kind == "decoder" and find("decoder", options["name"]).is_generative:
        return _of_writer(light(options))
    if kind == "objective":
        return digest(of_objective(options))
    if kind == "estimator":
        return _of_estimator(options)
    if kind == "featurizer":
        return _of_featurizer(options)
    task = "classification"
    if kind == "decoder":
        task = next(iter(find("decoder", options["name"]).tasks), task)
    columns, recipe = sample_table(["text", "number", "category"], [task, "regression"], rows=12)
    columns["text"][2] = None
    if kind == "fusion":
        recipe["fusion"] = options
    else:
        recipe["outputs"][f"y_{task}"]["decoder"] = options
    return of_network(columns=columns, **recipe)


def _of_featurizer(options: dict[str, Any]) -> str:
    """The fitted state, and the features of all rows of the first modality that it reads."""
    modality = find("featurizer", options["name"]).modalities[0]
    columns, recipe = sample_table([modality], ["classification"], rows=12)
    key = f"in_{modality}"
    recipe["inputs"][key] = with_features(recipe["inputs"][key], modality, options)
    preparation, prepared = prepare(columns, **recipe, **MEMBERS)
    features = FeatureSet(preparation.recipe, preparation, network_of(preparation).eval().encoders(), None)
    features.fit(prepared, np.arange(8))
    blocks = features.transform(prepared, np.arange(12)).blocks[key]
    values = [block.values.toarray() if block.kind == "sparse" else block.values for block in blocks]
    return digest([features.state(), values])


def _of_estimator(options: dict[str, Any]) -> str:
    """Held-out and other predictions, and the saved state."""
    features = sample_features(80)
    model = estimator(**options)
    target = planted_target(features, next(space for space in SPACES if space in model.spaces))
    held_out = model.cross_fit(features, target, folds_of(80, 2))
    return digest([held_out, model.predict(sample_features(20, seed=1)), model.save()])


def _of_writer(options: dict[str, Any]) -> str:
    columns, recipe = sample_table(["text"], ["text_generation"], rows=12)
    columns["text"][2] = None
    if options.get("encoder_source") == "checkpoint":  # of two inputs that both have the encoder of the checkpoint
        encoder = {"name": "pretrained_text", "checkpoint": options["checkpoint"], "max_tokens": None}
        columns["more"] = columns["text"][::-1]
        named = {"in_text": "text", "in_more": "more"} if options.get("input") else {"in_text": "text"}
        recipe["inputs"] = {
            name: {"modality": "text", "columns": [column], "encoder": encoder} for name, column in named.items()
        }
    if options.get("conditioning") == "template":  # of two images that both have the encoder of the checkpoint
        shown = [*sample("modality", "image", rows=12)["image"]]
        columns |= {"image": shown, "more": shown[::-1]}
        encoder = {"name": "pretrained_image", "checkpoint": options["checkpoint"], "max_tokens": None}
        recipe["inputs"] = {
            f"in_{column}": {"modality": "image", "columns": [column], "encoder": encoder}
            for column in ("image", "more")
        }
        recipe["outputs"]["y_text_generation"]["task"] = {"name": "text_generation", "instruction": "{text}"}
        columns["text"][2] = "amber"
    recipe["outputs"]["y_text_generation"] |= {"decoder": options}
    return of_network(columns=columns, **recipe)


def _of_encoder(options: dict[str, Any]) -> str:
    modality = find("encoder", options["name"]).modality
    columns, recipe = sample_table([modality], ["regression"], rows=8)
    recipe["inputs"][f"in_{modality}"]["encoder"] = light(options)
    return of_network(columns=columns, **recipe)


def _of_modality(options: dict[str, Any]) -> str:
    """Shape, prepared tensors, and an augmented training batch."""
    cells = sample("modality", options["name"])
    columns = cells | sample("task", "regression")
    inputs = {"x": {"modality": options, "columns": list(cells)}}
    preparation, prepared = prepare(columns, inputs=inputs, outputs={"target": "regression"})
    torch.manual_seed(1)
    augmented = preparation.batch(prepared, np.arange(prepared.rows), augment=True)
    plain = preparation.batch(prepared, np.arange(prepared.rows))
    return digest([preparation.shapes(), plain.inputs["x"], augmented.inputs["x"]])


def _of_written(options: dict[str, Any]) -> str:
    """Prepared targets and prompts, the network's predictions and generated texts, and the names of the metrics."""
    options = QUICK_TASKS.get(options["name"], {}) | options
    columns = sample("task", options["name"], rows=12) | sample("modality", "text", rows=12)
    columns["turns"] = [[f"why {row}", "so"] for row in range(12)]
    preparation, prepared = prepare(columns, outputs={"target": {"task": options}}, inputs={"text": "text"})
    found = of_network(columns=columns, outputs={"target": {"task": options}}, inputs={"text": "text"})
    task = preparation.tasks["target"]
    metrics = [*(metric.name for metric in task.metrics), task.generates_for_selection]
    value, present = prepared.targets["target"]
    return digest([found, metrics, list(value), present, list(prepared.prompts.get("target", []))])


def _of_task(options: dict[str, Any]) -> str:
    """Prepared targets, loss, predictions, baseline, and the names of the metrics, with a decoder that prescribes no
    options."""
    columns = sample("task", options["name"]) | sample("modality", "number")
    if find("task", options["name"]).needs_positions:  # two pictures of other sizes, and the first has the boxes
        columns |= sample("modality", "image")
        columns["other"] = [picture.resize((90, 100)) for picture in columns["image"]]
        options = {"image": "image", "cells": 4, **options}
    preparation, prepared = prepare(columns, outputs={"target": {"task": options, "decoder": "linear"}})
    task = preparation.tasks["target"]
    value, present = prepared.targets["target"]
    decided = torch.randn(prepared.rows, task.output_size, generator=torch.Generator().manual_seed(1))
    known = torch.from_numpy(present)
    distribution = task.distribution(decided)
    return digest(
        {
            "target": (value, present, task.classes, task.save()),
            "loss": task.loss(decided[known], torch.from_numpy(value)[known]),
            "answers": (distribution, task.predict(distribution), task.baseline_loss(), task.baseline_prediction()),
            "metrics": [metric.name for metric in task.metrics],
        }
    )
