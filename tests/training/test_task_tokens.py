"""Task tokens: each output has its own view of the inputs, whatever the fusion, and more fits through a narrow one."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from polymodal.core.errors import RecipeError
from polymodal.core.registry import components
from polymodal.data.table.cell_errors import CellErrors
from polymodal.model.make_network import make_network
from polymodal.model.model import Model
from polymodal.preparation.preparation import Preparation
from polymodal.training.loss import Loss
from polymodal.workflows.fit import fit, plan_fit, pretrain

BITS = np.array(list(itertools.product([-1.0, 1.0], repeat=3)))
TRAINING = {
    "num_threads": 1,
    "precision": "fp32",
    "epochs": 40,
    "batch_size": 32,
    "learning_rate": 0.01,
    "modality_dropout": 0.0,
    "early_stopping_patience": 40,
}
JOINT = sorted(name for name, fusion in components("fusion").items() if fusion.level == "feature")
APART = sorted(name for name, fusion in components("fusion").items() if fusion.level != "feature")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYMODAL_CACHE", str(tmp_path / "cache"))


def planted(copies: int) -> dict[str, list[Any]]:
    """Three bits, and the seven products of one, two or three of them: no two of these have anything in common."""
    bits = np.tile(BITS, (copies, 1))
    columns = {name: bits[:, place].tolist() for place, name in enumerate("abc")}
    for count in (1, 2, 3):
        for some in itertools.combinations(range(3), count):
            columns["y" + "".join("abc"[one] for one in some)] = bits[:, list(some)].prod(1).tolist()
    return columns


def recipe(*, tokens: bool, fusion: Any = "concat", **changes: Any) -> dict[str, Any]:
    made = {
        "inputs": dict.fromkeys("abc", "number"),
        "outputs": {name: {"task": "regression", "decoder": "linear"} for name in planted(1) if name.startswith("y")},
        "fusion": fusion,
        "hidden_size": 4,
        "task_tokens": tokens,
        "training": TRAINING,
        "evaluation": {"bootstrap_samples": 0, "unimodal_scores": "none"},
    }
    return made | changes


def explained(model: Model) -> float:
    """The share of the variance of all seven targets together, over the eight patterns of bits."""
    rows = planted(1)
    answers = model.predict({name: rows[name] for name in "abc"})
    missed = [np.mean((np.array(answers[name]) - rows[name]) ** 2) for name in model.recipe.outputs]
    return float(1 - np.mean(missed))


def test_seven_readings_of_four_numbers_need_the_tokens() -> None:
    """One vector of four numbers, read linearly, can explain four of seven uncorrelated targets at most. With task
    tokens each output has a vector of its own, from the same weights and seven tokens more."""
    fusion = {"name": "concat", "dropout": 0.0}
    without = fit(planted(48), recipe=recipe(tokens=False, fusion=fusion))
    told = fit(planted(48), recipe=recipe(tokens=True, fusion=fusion))
    assert explained(without) < 4 / 7 + 0.01
    assert explained(told) > 0.95
    hidden = 8  # of the fusion, each of which reads a token's four numbers and its presence
    more = 7 * 4 + hidden * 5
    counts = [sum(one.numel() for one in model.network.parameters()) for model in (without, told)]
    assert counts[1] - counts[0] == more


def untrained(fusion: Any, tokens: bool = True) -> tuple[Any, Preparation, Any]:
    """A network in training mode, its preparation, and a batch in which inputs are missing here and there."""
    data = planted(2)
    data["a"][0] = data["b"][3] = None
    for name in "abc":
        data[name][5] = None
    plan, parts = plan_fit(data, recipe=recipe(tokens=tokens, fusion=fusion, hidden_size=8))
    preparation = Preparation(plan.recipe)
    preparation.fit(parts["train"].table, np.arange(16))
    prepared = preparation.prepare(parts["train"].table, CellErrors(), folder=None, cache=None)
    torch.manual_seed(0)
    return make_network(plan.recipe, preparation), preparation, preparation.batch(prepared, np.arange(16))


@pytest.mark.parametrize("fusion", JOINT)
def test_every_joint_fusion_is_told_which_output_is_asked_for(fusion: str) -> None:
    network, preparation, batch = untrained(fusion)
    (view,) = network.encode_and_fuse(batch)
    assert list(view.per_task) == network.outputs
    vectors = torch.stack([one.pooled for one in view.per_task.values()])
    for one, other in itertools.combinations(range(len(vectors)), 2):
        assert not torch.allclose(vectors[one], vectors[other], atol=1e-4)
    torch.testing.assert_close(view.pooled, vectors.mean(0))
    assert view.weight[5] == 0  # a row without inputs counts no more than without tokens
    assert view.weight[[0, 1, 3]].tolist() == [1, 1, 1]
    total = Loss(preparation.tasks, dict.fromkeys(preparation.tasks, 1.0), "fixed")(network(batch), batch, {}).total
    total.backward()
    assert network.task_tokens.grad.abs().sum(1).min() > 0
    assert torch.isfinite(network.task_tokens.grad).all()


@pytest.mark.parametrize("fusion", APART)
def test_fusions_whose_inputs_decide_alone_are_refused(fusion: str) -> None:
    with pytest.raises(RecipeError, match=r"task_tokens.*feature-level"):
        plan_fit(planted(8), recipe=recipe(tokens=True, fusion=fusion))


def test_an_input_of_the_same_name_is_refused() -> None:
    inputs = {"task": {"columns": ["a"], "modality": "number"}, "b": "number"}
    with pytest.raises(RecipeError, match=r"inputs\.task.*rename"):
        plan_fit(planted(8), recipe=recipe(tokens=True, inputs=inputs))


def test_a_penalty_of_the_fusion_counts_for_every_run_of_it() -> None:
    """The mixture of experts is punished for uneven use in the run of each output, not in the last one alone."""
    network, preparation, batch = untrained("mixture")
    decided = network(batch)
    apart = [outputs.penalties["balance"] for outputs in decided.values()]
    assert len({float(one.detach()) for one in apart}) == len(apart)
    parts = Loss(preparation.tasks, dict.fromkeys(preparation.tasks, 1.0), "fixed")(decided, batch, {})
    bare = Loss(preparation.tasks, dict.fromkeys(preparation.tasks, 1.0), "fixed")(
        {name: type(one)(one.values, one.terms) for name, one in decided.items()}, batch, {}
    )
    torch.testing.assert_close(parts.total - bare.total, torch.stack(apart).mean(), atol=1e-5, rtol=1e-4)


def test_saved_and_read_again_it_answers_and_embeds_the_same(tmp_path: Path) -> None:
    rows = {name: planted(1)[name] for name in "abc"}
    model = fit(planted(8), recipe=recipe(tokens=True, training={**TRAINING, "epochs": 1}), out=tmp_path / "m")
    again = Model.load(tmp_path / "m")
    assert again.predict(rows) == model.predict(rows)
    np.testing.assert_array_equal(again.embed(rows), model.embed(rows))
    assert model.embed(rows).shape == (8, 4)


def test_a_recipe_with_tokens_pretrains_without_its_outputs() -> None:
    model = pretrain(planted(8), recipe=recipe(tokens=True, training={**TRAINING, "epochs": 1}))
    assert model.network.task_tokens is None


def test_texts_are_written_from_their_own_view() -> None:
    data = {"a": [0.0, 1.0] * 40, "said": ["no", "yes"] * 40, "other": ["up", "down"] * 40}
    outputs = dict.fromkeys(("said", "other"), "text_generation")
    made = recipe(tokens=True, inputs={"a": "number"}, outputs=outputs, hidden_size=16)
    model = fit(data, recipe=made | {"training": {**TRAINING, "epochs": 30}})
    assert [[texts[0].text for texts in model.generate({"a": [0.0, 1.0]}, output=name)] for name in outputs] == [
        ["no", "yes"],
        ["up", "down"],
    ]


def test_without_inputs_there_is_nothing_to_fuse() -> None:
    made = {"inputs": {}, "outputs": dict.fromkeys(("one", "other"), "text_generation"), "task_tokens": True}
    with pytest.raises(RecipeError, match=r"task_tokens.*without inputs"):
        fit({"one": ["a b", "c d"] * 20, "other": ["up", "down"] * 20}, recipe=made | {"training": {"epochs": 1}})
