"""Decision-level fusion: combinations checked by hand, any subset, detached experts, calibration, hybrid."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from polymodal.core.errors import RecipeError, TrainingError
from polymodal.core.registry import find
from polymodal.core.types import Space, TaskOutput, Tokens
from polymodal.nn.fusion.base import Fusion

torch.set_num_threads(1)

Loss = Callable[[Tensor], Tensor]
RULES = ["average", "weighted", "vote", "product", "stack"]
SPACES: list[Space] = ["categorical", "binary", "real"]


def make(name: str = "late", inputs: tuple[str, ...] = ("a", "b", "c"), k: int = 3, **options: Any) -> Fusion:
    torch.manual_seed(0)
    cls = find("fusion", name)
    fusion = cls(cls.Options.model_validate({"name": name, **options}), inputs=list(inputs), width=8)
    fusion.prepare_outputs({"first": 2, "y": k})
    return fusion.eval()


def batch(present: Tensor, names: tuple[str, ...] = ("a", "b", "c")) -> dict[str, Tokens]:
    torch.manual_seed(1)
    rows = len(present)
    mask = torch.tensor([True, False]).expand(rows, 2)
    return {name: Tokens(torch.randn(rows, 2, 8), mask, present[:, m]) for m, name in enumerate(names)}


def decide(rule: str, space: Space, expert: list[list[float]], present: list[bool] | None = None) -> Tensor:
    """The decision of one row, `[k]`, for the decoded values of each expert, `expert[m][k]`."""
    names = tuple("abcdef"[: len(expert)])
    fusion = make(inputs=names, k=len(expert[0]), combine=rule)
    views = fusion(batch(torch.tensor([present or [True] * len(expert)]), names))
    decoded = [torch.tensor([values]) for values in expert]
    return fusion.combine(decoded, views, space, "y").values[0]


def logits(*p: float) -> list[float]:
    return [math.log(value) + 5.0 for value in p]


def odds(*p: float) -> list[float]:
    return [math.log(value / (1 - value)) for value in p]


@pytest.mark.parametrize("rule", ["average", "weighted"])
def test_average_by_hand(rule: str) -> None:
    p = decide(rule, "categorical", [logits(0.7, 0.2, 0.1), logits(0.1, 0.8, 0.1)]).exp()
    assert p.tolist() == pytest.approx([0.4, 0.5, 0.1], abs=1e-6)
    q = decide(rule, "binary", [odds(0.9, 0.2), odds(0.5, 0.4)]).sigmoid()
    assert q.tolist() == pytest.approx([0.7, 0.3], abs=1e-6)
    assert decide(rule, "real", [[1.0, 4.0], [3.0, -2.0]]).tolist() == pytest.approx([2.0, 1.0])


@pytest.mark.parametrize("rule", ["average", "weighted", "product"])
def test_absent_experts_do_not_count(rule: str) -> None:
    here = [True, False, True]
    for space, expert in (
        ("categorical", [logits(0.7, 0.3), logits(0.01, 0.99), logits(0.5, 0.5)]),
        ("binary", [odds(0.7, 0.3), odds(0.01, 0.99), odds(0.5, 0.5)]),
        ("real", [[1.0], [100.0], [3.0]]),
    ):
        with_gap = decide(rule, space, expert, here)
        without = decide(rule, space, [expert[0], expert[2]])
        torch.testing.assert_close(with_gap, without, atol=1e-6, rtol=1e-5)


def test_vote_by_hand() -> None:
    votes = [logits(0.5, 0.4, 0.1), logits(0.5, 0.4, 0.1), logits(0.01, 0.98, 0.01)]
    p = decide("vote", "categorical", votes).exp()
    assert p.tolist() == pytest.approx([2 / 3, 1 / 3, 0.0], abs=1e-3)
    assert decide("average", "categorical", votes).argmax() == 1  # the mean says otherwise: this is a vote
    q = decide("vote", "binary", [odds(0.6, 0.4), odds(0.6, 0.4), odds(0.01, 0.9)]).sigmoid()
    assert q.tolist() == pytest.approx([2 / 3, 1 / 3], abs=1e-3)
    assert decide("vote", "real", [[1.0], [2.0], [50.0]]).item() == 2.0
    assert decide("vote", "real", [[1.0], [2.0], [50.0]], [True, True, False]).item() == 1.5


def test_tied_votes_go_to_the_mean_probability() -> None:
    assert decide("vote", "categorical", [logits(0.6, 0.4), logits(0.1, 0.9)]).argmax() == 1
    assert decide("vote", "categorical", [logits(0.9, 0.1), logits(0.4, 0.6)]).argmax() == 0
    assert decide("vote", "binary", [odds(0.6), odds(0.1)]).item() < 0
    assert decide("vote", "binary", [odds(0.9), odds(0.4)]).item() > 0


def test_product_by_hand() -> None:
    p = decide("product", "categorical", [logits(0.8, 0.2), logits(0.5, 0.5)]).exp()
    assert p.tolist() == pytest.approx([2 / 3, 1 / 3], abs=1e-6)  # sqrt(0.4) : sqrt(0.1)
    assert decide("product", "binary", [[3.0], [-1.0]]).item() == pytest.approx(1.0, abs=1e-6)
    assert decide("product", "real", [[3.0], [-1.0]]).item() == pytest.approx(1.0)
    assert decide("product", "categorical", [logits(0.8, 0.2)] * 2).exp()[0].item() == pytest.approx(0.8)


def test_product_divides_by_temperatures() -> None:
    fusion = make(inputs=("a", "b"), k=1, combine="product")
    views = fusion(batch(torch.ones(1, 2, dtype=torch.bool), ("a", "b")))
    fusion.combiner.fitted["1"].copy_(torch.tensor([2.0, 4.0]).log())
    decoded = [torch.tensor([[3.0]]), torch.tensor([[-1.0]])]
    assert fusion.combine(decoded, views, "binary", "y").values.item() == pytest.approx((3 / 2 - 1 / 4) / 2)
    assert fusion.combine(decoded, views, "real", "y").values.item() == pytest.approx((3 / 2 - 1 / 4) / (3 / 4))


def test_weighted_uses_its_weights_over_present_views() -> None:
    fusion = make(inputs=("a", "b", "c"), k=1, combine="weighted")
    fusion.combiner.fitted["1"].copy_(torch.tensor([0.5, 0.3, 0.2]).log())
    views = fusion(batch(torch.tensor([[True, True, True], [False, True, True]])))
    decoded = [torch.full((2, 1), value) for value in (1.0, 2.0, 4.0)]
    assert fusion.combine(decoded, views, "real", "y").values[:, 0].tolist() == pytest.approx([1.9, 2.8])


def test_stack_by_hand() -> None:
    fusion = make(inputs=("a", "b"), k=2, combine="stack")
    views = fusion(batch(torch.tensor([[True, True], [True, False]]), ("a", "b")))
    weight = torch.tensor([[1.0, 0, 0.5, 0, 0, 0.25], [0, 1.0, 0, 0.5, 0, 0]])
    fusion.combiner.fitted["1"].copy_(weight)
    fusion.combiner.fitted["1_bias"].copy_(torch.tensor([0.0, 10.0]))
    decoded = [torch.tensor([[1.0, 2.0]] * 2), torch.tensor([[4.0, 8.0]] * 2)]
    values = fusion.combine(decoded, views, "real", "y").values
    assert values.flatten().tolist() == pytest.approx([1 + 2 + 0.25, 2 + 4 + 10, 1, 2 + 10])


def test_stack_starts_as_the_log_linear_mean() -> None:
    expert = [logits(0.8, 0.2), logits(0.5, 0.5)]
    torch.testing.assert_close(decide("stack", "categorical", expert), decide("product", "categorical", expert))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("space", SPACES)
def test_every_subset_is_finite_also_for_extreme_experts(rule: str, space: Space) -> None:
    present = torch.tensor([[bool(row >> m & 1) for m in range(3)] for row in range(8)])
    fusion = make(combine=rule)
    views = fusion(batch(present))
    decoded = [sign * torch.tensor([[400.0, -300.0, 0.0]]).repeat(8, 1) for sign in (1, -1, 1)]
    decoded[1][0] = math.nan  # row 0 has no expert: what is decoded there is never read
    values = fusion.combine(decoded, views, space, "y").values
    assert torch.isfinite(values).all()
    assert values[0].tolist() == pytest.approx([-math.log(3) if space == "categorical" else 0.0] * 3)
    if space == "categorical":
        torch.testing.assert_close(values.exp().sum(1), torch.ones(8))


@pytest.mark.parametrize("name", ["late", "hybrid"])
@pytest.mark.parametrize("rule", RULES)
def test_experts_are_trained_only_by_their_own_loss(name: str, rule: str) -> None:
    fusion = make(name, combine=rule)
    views = fusion(batch(torch.tensor([[True, True, False], [True, False, False]])))
    assert [view.name for view in views] == fusion.branch_names()
    decoded = [torch.randn(2, 3, requires_grad=True) for _ in views]
    outputs: TaskOutput = fusion.combine(decoded, views, "categorical", "y")
    assert not outputs.values.requires_grad
    assert [term.name for term in outputs.terms] == fusion.branch_names() == list(outputs.per_branch)
    for term, values in zip(outputs.terms, decoded, strict=True):
        assert term.values is values
    assert [term.weight.tolist() for term in outputs.terms[:3]] == [[1, 1], [1, 0], [0, 0]]
    if name == "hybrid":
        assert outputs.terms[3].weight.tolist() == [1, 1]
    assert not any(parameter.requires_grad for parameter in fusion.combiner.parameters())


def planted(space: Space, rows: int, seed: int) -> tuple[dict[str, Tensor], Loss]:
    """Expert `a` is right and modest, expert `b` is noise and sure of it. Also the target's loss."""
    torch.manual_seed(seed)
    if space == "categorical":
        target = torch.randint(3, (rows,))
        sure = functional.one_hot(torch.randint(3, (rows,)), 3) * 12.0
        right = functional.one_hot(target, 3) * 1.5 + 0.5 * torch.randn(rows, 3)
        return {"a": right, "b": sure}, lambda v: functional.cross_entropy(v, target)
    if space == "binary":
        labels = torch.randint(2, (rows, 2)).float()
        right = (labels - 0.5) * 2 + 0.5 * torch.randn(rows, 2)
        sure = torch.randn(rows, 2).sign() * 12
        return {"a": right, "b": sure}, lambda v: functional.binary_cross_entropy_with_logits(v, labels)
    target = torch.randn(rows, 1)
    decoded = {"a": target + 0.3 * torch.randn(rows, 1), "b": 4 * torch.randn(rows, 1)}
    return decoded, lambda v: functional.mse_loss(v, target)


@pytest.mark.parametrize("rule", ["weighted", "product", "stack"])
@pytest.mark.parametrize("space", SPACES)
def test_calibration_improves_held_out_loss(rule: str, space: Space) -> None:
    decoded, loss = planted(space, 200, seed=1)
    k = next(iter(decoded.values())).shape[1]
    fusion = make(inputs=("a", "b"), k=k, combine=rule)
    first = {key: value.clone() for key, value in fusion.state_dict().items() if key.startswith("combiner.fitted.0")}
    ones = {name: torch.ones(200) for name in "ab"}
    with torch.inference_mode():
        fusion.calibrate({n: v.clone() for n, v in decoded.items()}, ones, loss, space, "y")
    fresh, fresh_loss = planted(space, 500, seed=2)
    weight = [torch.ones(500)] * 2
    before = make(inputs=("a", "b"), k=k, combine=rule).combiner(list(fresh.values()), weight, space, "y")
    after = fusion.combiner(list(fresh.values()), weight, space, "y")
    assert fresh_loss(after) < 0.7 * fresh_loss(before)
    for key, value in first.items():
        assert torch.equal(fusion.state_dict()[key], value), "another output changed"
    assert all(p.grad is None and not p.requires_grad for p in fusion.combiner.parameters())


@pytest.mark.parametrize("rule", ["average", "vote"])
def test_rules_without_parameters_have_nothing_to_calibrate(rule: str) -> None:
    fusion = make(inputs=("a", "b"), combine=rule)
    assert not list(fusion.parameters())
    decoded, loss = planted("categorical", 20, seed=1)
    fusion.calibrate(decoded, {name: torch.ones(20) for name in "ab"}, loss, "categorical", "y")


def test_calibration_refuses_a_loss_that_is_not_finite() -> None:
    fusion = make(inputs=("a", "b"), combine="product")
    decoded, _ = planted("categorical", 20, seed=1)
    with pytest.raises(TrainingError, match=r"outputs\.y: the validation loss is not finite"):
        fusion.calibrate(decoded, {n: torch.ones(20) for n in "ab"}, lambda v: v.sum() * math.nan, "categorical", "y")
    assert not any(parameter.requires_grad for parameter in fusion.parameters())


def test_calibrated_values_survive_a_state_dict() -> None:
    fusion = make(inputs=("a", "b"), combine="stack")
    decoded, loss = planted("categorical", 50, seed=1)
    fusion.calibrate(decoded, {name: torch.ones(50) for name in "ab"}, loss, "categorical", "y")
    other = make(inputs=("a", "b"), combine="stack")
    other.load_state_dict(fusion.state_dict())
    weight = [torch.ones(50)] * 2
    for part in (fusion, other):
        part.values = part.combiner(list(decoded.values()), weight, "categorical", "y")
    assert torch.equal(fusion.values, other.values)


@pytest.mark.parametrize("name", ["late", "hybrid"])
@pytest.mark.parametrize("rule", RULES)
def test_one_input_at_batch_one(name: str, rule: str) -> None:
    fusion = make(name, inputs=("a",), k=1, combine=rule)
    views = fusion(batch(torch.tensor([[True]]), ("a",)))
    values = fusion.combine([torch.tensor([[0.7]])] * len(views), views, "real", "y").values
    assert values.tolist() == [[pytest.approx(0.7)]]


def test_late_views_are_the_inputs_and_read_padding_never() -> None:
    fusion, tokens = make(), batch(torch.ones(2, 3, dtype=torch.bool))
    for view, (name, part) in zip(fusion(tokens), tokens.items(), strict=True):
        assert view.name == name
        assert torch.equal(view.pooled, part.features[:, 0])
    assert not fusion.models_interactions


def test_hybrid_builds_its_joint_from_a_name_or_a_mapping() -> None:
    options = find("fusion", "hybrid").Options
    assert options().joint_fusion.name == "attention"
    assert options(joint_fusion={"name": "perceiver", "num_latents": 5}).joint_fusion.num_latents == 5
    mean = make("hybrid", joint_fusion="mean")
    assert type(mean.joint) is find("fusion", "mean")
    assert not mean.models_interactions
    assert make("hybrid", joint_fusion={"name": "attention", "num_heads": 2}).models_interactions
    again = options.model_validate(
        options(joint_fusion={"name": "perceiver", "num_latents": 5}).model_dump(mode="json")
    )
    assert again.joint_fusion.num_latents == 5


def test_hybrid_size_dial_reaches_the_joint() -> None:
    options = find("fusion", "hybrid").Options
    sized = options(joint_fusion={"name": "attention", "num_heads": 2}).at_size("base")
    assert (
        sized.joint_fusion.num_layers
        == options().joint_fusion.at_size("base").num_layers
        > options().joint_fusion.num_layers
    )
    assert sized.joint_fusion.num_heads == 2


@pytest.mark.parametrize(
    ("joint", "message"),
    [
        ("atention", "did you mean 'attention'"),
        ("late", "no fusion 'late'"),
        ("hybrid", "no fusion 'hybrid'"),
    ],
)
def test_hybrid_refuses_a_joint_that_is_no_feature_fusion(joint: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find("fusion", "hybrid").Options(joint_fusion=joint)


def test_hybrid_refuses_an_input_called_joint() -> None:
    with pytest.raises(RecipeError, match="reserves the name 'joint'"):
        make("hybrid", inputs=("joint", "b"))


def test_hybrid_trains_every_parameter_of_its_joint() -> None:
    fusion = make("hybrid", joint_fusion={"name": "attention", "num_heads": 2}).train()
    views = fusion(batch(torch.ones(4, 3, dtype=torch.bool)))
    decoders = nn.ModuleList(nn.Linear(8, 3) for _ in views)
    decoded = [decoder(view.pooled) for decoder, view in zip(decoders, views, strict=True)]
    terms = fusion.combine(decoded, views, "categorical", "y").terms
    sum((term.values.square().sum() for term in terms), torch.zeros(())).backward()
    for key, parameter in fusion.joint.named_parameters():
        assert parameter.grad.abs().sum() > 0, key


def test_json_schema_of_hybrid_is_finite() -> None:
    schema = find("fusion", "hybrid").Options.model_json_schema()
    assert "attention" in str(schema["properties"]["joint_fusion"])
