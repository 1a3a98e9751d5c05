"""Law 12, for whole predictions: what a model says on another device is what it says on the CPU."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import polymodal
from laws.multimodal_checkpoints import multimodal_checkpoint
from laws.samples import network_of, prepare, sample_table, total_loss, whole_batch
from polymodal.core.registry import components
from polymodal.data.partition import Split
from polymodal.generation.config import GenerationConfig
from polymodal.inference.predictor import Predictor
from polymodal.inference.text_generation import generate_texts
from polymodal.model.model import Model
from polymodal.runtime.compute import ComputeConfig
from simulated_device import simulated_device

CLOSE = {"rtol": 1e-3, "atol": 1e-4}


@pytest.fixture
def device() -> Iterator[str]:
    with simulated_device() as name:
        yield name


@pytest.mark.parametrize("task", components("task"))
def test_of_every_task(task: str, device: str) -> None:
    """Predictions with generated texts and images, and embeddings."""
    main = {"event_detection": "time_series", "object_detection": "image"}.get(task, "category")
    columns, recipe = sample_table([main, "number"], [task], rows=8)
    for spec in recipe["outputs"].values():
        if task in ("text_generation", "image_generation", "conversation"):
            spec["decoder"] = {"name": "transformer", "num_layers": 1}
    preparation, prepared = prepare(columns, **recipe)
    network, split = network_of(preparation).eval(), Split.all_rows(prepared)
    own = Predictor(network, preparation)
    other = Predictor(copy.deepcopy(network).to(device), preparation, ComputeConfig(device=device))
    for name, expected in own.predict(split).items():
        found = other.predict(split)[name]
        assert found.values.device.type == "cpu"
        torch.testing.assert_close(found.values, expected.values, **CLOSE)
    np.testing.assert_allclose(other.embed(split)["row"], own.embed(split)["row"], rtol=1e-3, atol=1e-4)


def test_of_a_multimodal_language_model(device: str) -> None:
    """Pictures between the words of a chat template."""
    pictures = [Image.new("RGB", (48, 60), (40 * row, 90, 120)) for row in range(3)]
    questions, answers = ["What color?", "Is it red?", "red?"], ["red", "no", "a circle"]
    columns = {"photo": pictures, "question": questions, "answer": answers}
    folder = multimodal_checkpoint()
    encoder = {"name": "pretrained_image", "checkpoint": folder, "max_tokens": None}
    task = {"name": "text_generation", "instruction": "{question}"}
    decoder = {"name": "causal_lm", "conditioning": "template", "checkpoint": folder, "images": ["photo"]}
    outputs = {"answer": {"task": task, "decoder": decoder}}
    inputs = {"photo": {"modality": "image", "encoder": encoder}}
    preparation, prepared = prepare(columns, inputs=inputs, outputs=outputs)
    network, batch = network_of(preparation).eval(), whole_batch(preparation, prepared)
    losses, texts = [], []
    for one, its in ((network, batch), (copy.deepcopy(network).to(device), batch.to(device))):
        losses.append(total_loss(preparation, one, its).detach().cpu())
        with torch.inference_mode():
            branches, config = one.encode_and_fuse(its), GenerationConfig(max_new_tokens=4)
            found = generate_texts(one, "answer", preparation.tasks["answer"], branches, its, config, np.arange(3))
        texts.append([[text.tokens for text in row] for row in found])
    torch.testing.assert_close(losses[1], losses[0], **CLOSE)
    assert texts[1] == texts[0]


def test_of_explanations(tmp_path: Path, device: str) -> None:
    """Contributions of inputs and parts, by each method."""
    columns, recipe = sample_table(["text", "number"], ["classification"], rows=16)
    settings = ["training.epochs=1", "evaluation.bootstrap_samples=0", "hidden_size=8", "training.device=cpu"]
    polymodal.fit(columns, recipe={**recipe, "members": []}, settings=settings, out=tmp_path / "model")
    models = [Model.load(tmp_path / "model", device=place) for place in ("cpu", device)]
    assert {one.device.type for one in models[1].network.parameters()} == {"simulated"}
    rows = {name: cells[:3] for name, cells in columns.items()}
    methods = {"occlusion": "in_text", "shapley": "in_text", "integrated_gradients": "in_number"}
    for method, name in methods.items():
        found: Any = [one.explain(rows, method=method, input=name) for one in models]  # type: ignore[arg-type]
        for own, other in zip(*found, strict=True):
            np.testing.assert_allclose(other.scores, own.scores, rtol=1e-3, atol=1e-4)
    shares = [one.contributions(rows) for one in models]
    np.testing.assert_allclose(shares[1].values, shares[0].values, rtol=1e-3, atol=1e-4)
