"""Metric learning: the published loss, its baseline, and retrieval of unseen groups."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from laws.samples import Columns, experiment, prepare, trained
from polymodal.core.errors import DataError, RecipeError
from polymodal.core.registry import components, find
from polymodal.data.table.sample import ColumnSample
from polymodal.evaluation.intervals import Resampling, bootstrap
from polymodal.metrics.leave_one_out import leave_one_out, leave_one_out_metrics
from polymodal.model.make_network import make_network
from polymodal.nn.layers.embedding_head import l2_normalize
from polymodal.tasks.label_hash import label_hash
from polymodal.tasks.metric_learning import NO_GROUP, MetricLearningTask, supervised_contrastive
from polymodal.training.trainer import Trainer

torch.set_num_threads(1)


def vectors(rows: int, size: int = 8, seed: int = 0) -> Tensor:
    return l2_normalize(torch.randn(rows, size, generator=torch.Generator().manual_seed(seed)))


def written_out(z: Tensor, groups: list[int], temperature: float) -> float:
    """Equation 2 of the paper, the mean over rows that have another of their group."""
    losses = []
    for i in range(len(z)):
        near = {a: math.exp(float(z[i] @ z[a]) / temperature) for a in range(len(z)) if a != i}
        own = [a for a in near if groups[a] == groups[i]]
        if own:
            losses.append(-sum(math.log(near[p] / sum(near.values())) for p in own) / len(own))
    return float(np.mean(losses))


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_the_loss_is_that_of_the_paper_in_units_of_the_baseline(temperature: float) -> None:
    groups = [1, 2, 1, 3, 2, 2, 4]
    found = supervised_contrastive(vectors(7), torch.tensor(groups), temperature)
    assert float(found.mean()) == pytest.approx(written_out(vectors(7), groups, temperature) / math.log(6), rel=1e-5)
    assert [float(found[row]) for row in (3, 6)] == [0.0, 0.0]


def test_many_anchors_are_compared_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = torch.randint(1, 5, (23,), generator=torch.Generator().manual_seed(0))
    whole = supervised_contrastive(vectors(23), groups, 0.1)
    monkeypatch.setattr("polymodal.tasks.metric_learning.ANCHORS_PER_CHUNK", 4)
    torch.testing.assert_close(supervised_contrastive(vectors(23), groups, 0.1), whole)


def test_rows_without_a_target_are_compared_with_nothing() -> None:
    groups = torch.tensor([1, 1, 2, 2, 3])
    plain = supervised_contrastive(vectors(5), groups, 0.1)
    more = torch.cat([vectors(5), vectors(3, seed=1)])
    beside = supervised_contrastive(more, torch.cat([groups, torch.full((3,), NO_GROUP)]), 0.1)
    torch.testing.assert_close(beside[:5], plain)
    assert beside[5:].tolist() == [0.0] * 3


@pytest.mark.parametrize("groups", [[1, 2, 3], [NO_GROUP] * 3, [5], [1, 1]])
def test_batches_without_pairs_have_a_gradient_of_zero(groups: list[int]) -> None:
    values = vectors(len(groups)).requires_grad_()
    loss = supervised_contrastive(values, torch.tensor(groups), 0.1).sum()
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0, abs=1e-6)
    assert values.grad is not None
    assert torch.isfinite(values.grad).all()


@pytest.mark.parametrize("rows", [8, 40])
def test_one_vector_for_all_rows_has_the_baseline_loss(rows: int) -> None:
    task = MetricLearningTask(MetricLearningTask.Options(embedding_dim=32, matryoshka_dims=[8, 16]), columns=["g"])
    constant = torch.from_numpy(np.tile(task.baseline_prediction(), (rows, 1)))
    loss = task.loss(constant, torch.tensor([1 + row // 2 for row in range(rows)]))
    assert float(loss.mean()) == pytest.approx(task.baseline_loss(), rel=1e-5) == 3


def test_every_prefix_is_learned() -> None:
    """A wrong short prefix increases the loss, even if the full vectors are right."""
    task = MetricLearningTask(MetricLearningTask.Options(embedding_dim=8, matryoshka_dims=[2]), columns=["g"])
    whole = MetricLearningTask(MetricLearningTask.Options(embedding_dim=8, matryoshka_dims=[]), columns=["g"])
    values = torch.zeros(4, 8)
    values[:, 0] = 1.0
    values[:2, 2], values[2:, 3] = 9.0, 9.0
    groups = torch.tensor([1, 1, 2, 2])
    assert float(whole.loss(values, groups).mean()) < 0.7
    assert float((task.loss(values, groups) - whole.loss(values, groups)).mean()) == pytest.approx(1.0)


def test_names_of_groups_have_one_number_everywhere() -> None:
    assert label_hash("a") == label_hash("a") != label_hash("b")
    assert label_hash(1) == label_hash(1.0)
    assert len({label_hash(one) for one in (1, True, "1", 1.5)}) == 4


def test_gaps_and_unusable_cells() -> None:
    columns: Columns = {"x": [1.0, 2.0, 3.0, 4.0], "target": ["a", None, "a", "b"]}
    _, prepared = prepare(columns, inputs={"x": "number"}, outputs={"target": "metric_learning"})
    value, present = prepared.targets["target"]
    assert present.tolist() == [True, False, True, True]
    assert value[0] == value[2] != value[3]


@pytest.mark.parametrize("names", [["a", "b", "c"], ["a", "a", "a"]])
def test_there_must_be_something_to_learn(names: list[str]) -> None:
    with pytest.raises(DataError, match="at least two groups"):
        prepare({"x": [1.0, 2.0, 3.0], "target": names}, inputs={"x": "number"}, outputs={"target": "metric_learning"})


def test_prefixes_are_shorter_than_the_vector() -> None:
    with pytest.raises(RecipeError, match="matryoshka_dims"):
        MetricLearningTask(MetricLearningTask.Options(embedding_dim=8, matryoshka_dims=[8]), columns=["g"])
    assert MetricLearningTask(MetricLearningTask.Options(embedding_dim=64), columns=["g"]).sizes == [8, 16, 32, 64]


def test_it_is_never_guessed() -> None:
    sample = ColumnSample("g", ["a", "b"] * 3, None, rows=6, sampled=6, nulls=0, root=None)
    assert find("task", "metric_learning").match_column(sample) is None
    assert components("task")["classification"].match_column(sample) is not None


def test_leave_one_out_ranks_by_hand() -> None:
    angles = np.deg2rad([0, 10, 25, 90, 100, 200])
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    queries, ranking = leave_one_out(points, np.array([1, 2, 1, 3, 3, 4]))
    assert queries.tolist() == [0, 2, 3, 4]
    assert ranking[:, 0].tolist() == [2, 2, 1, 1]
    assert ranking[:, 1].tolist() == [0.5, 0.5, 1, 1]


def test_ties_count_against_the_model() -> None:
    """With one vector for all rows, the match ranks after all other rows."""
    _, ranking = leave_one_out(np.tile(l2_normalize(torch.randn(1, 7)).double().numpy(), (9, 1)), np.arange(9) // 3)
    assert ranking[:, 0].tolist() == [7] * 9
    assert ranking[:, 1] == pytest.approx((1 / 7 + 2 / 8) / 2)


def test_metrics_rank_once_and_follow_weights() -> None:
    draw = np.random.default_rng(0)
    points, groups = (
        l2_normalize(torch.from_numpy(draw.normal(size=(30, 4)))).double().numpy(),
        draw.integers(0, 12, 30),
    )
    queries, ranking = leave_one_out(points, groups)
    weight = draw.random(30)
    for metric, values in zip(
        leave_one_out_metrics(), (ranking[:, 0] <= 1, ranking[:, 0] <= 5, ranking[:, 1]), strict=True
    ):
        expected = np.average(values, weights=weight[queries])
        assert metric.score(points, groups, weight) == pytest.approx(expected)
        assert metric.weighted(points, groups)(weight) == pytest.approx(expected)
        found = bootstrap(metric, points, groups, np.ones(30), Resampling(50))
        assert found.low <= found.value <= found.high


def planted(groups: int, rows: int, seed: int, first: int = 0) -> Columns:
    """Every group has a position on a circle, given by two of fourteen numbers; the other twelve are strong noise."""
    draw = np.random.default_rng(seed)
    member = np.repeat(np.arange(first, first + groups), rows)
    angle = 2.4 * member
    told = np.stack([np.cos(angle), np.sin(angle)], axis=1) + draw.normal(0, 0.1, (len(member), 2))
    noise = draw.normal(0, 3, (len(member), 12))
    numbers = np.concatenate([told, noise], axis=1)
    order = draw.permutation(len(member))
    columns: Columns = {f"n{place}": numbers[order, place].tolist() for place in range(14)}
    return {**columns, "who": [f"g{one}" for one in member[order]]}


def test_unseen_groups_are_found(tmp_path: Path) -> None:
    """And they are not with the names of groups shuffled."""
    seen, unseen = planted(12, 30, seed=0), planted(5, 20, seed=1, first=20)
    shuffled = {**seen, "who": np.random.default_rng(5).permutation(seen["who"]).tolist()}
    recipe = {
        "inputs": {"n": {"modality": "number", "columns": [f"n{place}" for place in range(14)]}},
        "outputs": {
            "who": {"task": "metric_learning", "decoder": {"name": "embed", "embedding_dim": 16, "hidden_size": 32}}
        },
        "training": {"epochs": 15, "batch_size": 64, "learning_rate": 0.005},
    }
    scores = {}
    for name, columns in (("real", seen), ("shuffled", shuffled)):
        model = trained({"train": columns, "validation": unseen}, tmp_path / name, **recipe)
        scores[name] = model.evaluate(unseen)["who"]
        found = np.array(model.predict(unseen))
        assert found.shape == (100, 16)
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1)
    assert scores["real"]["recall@1"]["low"] > 0.7
    assert scores["real"]["map"]["value"] > scores["shuffled"]["map"]["value"] + 0.2
    assert scores["real"]["recall@1"]["baseline"] == 0.0
    assert scores["shuffled"]["recall@1"]["value"] < 0.6


def test_training_draws_rows_of_a_group_together(tmp_path: Path) -> None:
    """Of two hundred groups of two rows, a batch drawn at random would hold hardly a pair."""
    columns = planted(200, 2, seed=0)
    columns["who"][0] = None
    found = experiment(
        {"train": columns, "validation": columns},
        tmp_path,
        outputs={"who": "metric_learning"},
        training={"batch_size": 16},
    )
    network = make_network(found.recipe, found.preparation)
    trainer = Trainer(found.recipe, network, found.preparation, found.splits)
    names = np.array(columns["who"], dtype=object)
    paired = [sum(np.unique(names[rows].astype(str), return_counts=True)[1] == 2) for rows in trainer.sampler.epoch(0)]
    assert sum(paired) == 199


def places(rows: int, seed: int) -> Columns:
    """Sixteen groups, each determined by one number."""
    member = np.arange(rows) % 16
    numbers = np.eye(16)[member] + np.random.default_rng(seed).normal(0, 0.15, (rows, 16))
    return {**{f"n{place}": numbers[:, place].tolist() for place in range(16)}, "who": [f"g{one}" for one in member]}


def test_a_prefix_that_is_learned_tells_more_than_one_that_is_not(tmp_path: Path) -> None:
    """And the whole vector loses nothing by it."""
    seen, fresh = places(480, seed=0), places(240, seed=1)
    found = {}
    for name, sizes in (("learned", [3]), ("cut", [])):
        model = trained(
            {"train": seen, "validation": fresh},
            tmp_path / name,
            seed=2,
            inputs={"n": {"modality": "number", "columns": [f"n{place}" for place in range(16)]}},
            outputs={
                "who": {
                    "task": "metric_learning",
                    "decoder": {"name": "embed", "embedding_dim": 32, "matryoshka_dims": sizes},
                }
            },
            training={"epochs": 30, "batch_size": 64, "learning_rate": 0.01, "early_stopping_patience": 30},
        )
        for size in (3, 32):
            _, ranking = leave_one_out(model.embed(fresh, dim=size).astype(np.float64), np.array(fresh["who"]))
            found[name, size] = ranking[:, 1].mean()
    assert found["learned", 3] > found["cut", 3] + 0.03
    assert found["learned", 32] > found["cut", 32] - 0.03
