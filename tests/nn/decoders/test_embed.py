"""The decoder embed: vectors of unit length, dimensions passed to the task, and rejection of other tasks."""

from __future__ import annotations

import pytest
import torch

from laws.samples import network_of, prepare, sample_table, whole_batch
from polymodal.core.errors import RecipeError
from polymodal.nn.layers.embedding_head import EmbeddingHead, halved_dims, l2_normalize, matryoshka_prefixes

torch.set_num_threads(1)


def test_vectors_have_unit_length() -> None:
    columns, recipe = sample_table(["number"], ["metric_learning"], rows=12)
    recipe["outputs"]["y_metric_learning"]["decoder"] = {"name": "embed", "embedding_dim": 24}
    preparation, prepared = prepare(columns, **recipe)
    network = network_of(preparation)
    values = network(whole_batch(preparation, prepared))["y_metric_learning"].values
    assert values.shape == (12, 24)
    torch.testing.assert_close(values.norm(dim=1), torch.ones(12))


@pytest.mark.parametrize(
    ("decoder", "sizes"),
    [
        ({}, [8, 16, 32, 64]),
        ({"embedding_dim": 48, "matryoshka_dims": []}, [48]),
        ({"embedding_dim": 48, "matryoshka_dims": [5, 12]}, [5, 12, 48]),
    ],
)
def test_its_sizes_are_those_of_the_task(decoder: dict[str, object], sizes: list[int]) -> None:
    columns, recipe = sample_table(["number"], ["metric_learning"])
    recipe["outputs"]["y_metric_learning"]["decoder"] = {"name": "embed", **decoder}
    preparation, _ = prepare(columns, **recipe)
    assert preparation.tasks["y_metric_learning"].sizes == sizes  # type: ignore[attr-defined]


def test_the_size_follows_the_dial() -> None:
    columns, recipe = sample_table(["number"], ["metric_learning"])
    assert prepare(columns, **recipe, size="base")[0].tasks["y_metric_learning"].output_size == 256


def test_a_dimension_that_contradicts_the_task_is_rejected() -> None:
    columns, recipe = sample_table(["number"], ["metric_learning"])
    recipe["outputs"]["y_metric_learning"] = {
        "task": {"name": "metric_learning", "embedding_dim": 20},
        "decoder": {"name": "embed", "embedding_dim": 24},
    }
    with pytest.raises(RecipeError, match=r"outputs\.y_metric_learning\.task\.embedding_dim"):
        prepare(columns, **recipe)


def test_other_tasks_are_rejected() -> None:
    columns, recipe = sample_table(["number"], ["classification"])
    recipe["outputs"]["y_classification"]["decoder"] = "embed"
    with pytest.raises(
        RecipeError, match=r"outputs\.y_classification\.decoder.*supports only the task metric_learning"
    ):
        prepare(columns, **recipe)


def test_unit_vectors_and_prefixes() -> None:
    x = torch.randn(5, 16, dtype=torch.bfloat16)
    assert l2_normalize(x).dtype == torch.float32
    for part, size in zip(matryoshka_prefixes(x, [2, 8, 16]), [2, 8, 16], strict=True):
        assert part.shape == (5, size)
        torch.testing.assert_close(part.norm(dim=1), torch.ones(5))
        torch.testing.assert_close(part, l2_normalize(x.float()[:, :size]))
    nothing = torch.zeros(1, 4, requires_grad=True)
    l2_normalize(nothing).sum().backward()
    assert nothing.grad is not None
    assert torch.isfinite(nothing.grad).all()
    assert (halved_dims(64), halved_dims(20), halved_dims(8)) == ([8, 16, 32], [10], [])


def test_a_head_with_a_hidden_layer_is_nonlinear() -> None:
    """A linear head maps the mean of two normalized vectors to the mean of their outputs; an MLP does not."""
    torch.manual_seed(0)
    first, second = torch.tensor([[1.0, -1.0, 1.0, -1.0]]), torch.tensor([[1.0, 1.0, -1.0, -1.0]])

    def bend(head: EmbeddingHead) -> float:
        inside = head.projection
        return float((inside((first + second) / 2) - (inside(first) + inside(second)) / 2).abs().max().detach())

    assert bend(EmbeddingHead(4, 3)) < 1e-6 < 1e-3 < bend(EmbeddingHead(4, 3, hidden_size=8))
