"""The fusion methods that see one vector per input: equations by hand, and options."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from nn.fusion.vectors import WIDTH, batch, decide, every_method, flags, make, vector
from polymodal.core.errors import RecipeError
from polymodal.core.types import Tokens
from polymodal.nn.fusion.bilinear import Bilinear, power_normalize
from polymodal.nn.fusion.concat import Concat
from polymodal.nn.fusion.film import FiLM
from polymodal.nn.fusion.gated import Gated
from polymodal.nn.fusion.lowrank import LowRank
from polymodal.nn.fusion.max import Maximum
from polymodal.nn.fusion.mixture import MixtureOfExperts, imbalance
from polymodal.nn.fusion.product import Product
from polymodal.nn.fusion.quality import Quality, confidence
from polymodal.nn.fusion.sequential import Sequential
from polymodal.nn.fusion.sum import Sum
from polymodal.nn.fusion.tensor import TensorFusion
from polymodal.nn.fusion.weighted import Weighted

# Equations by hand


def test_additive_methods_by_hand() -> None:
    vectors = torch.tensor([[[1.0, -2.0], [3.0, 5.0], [7.0, -1.0]]] * 3)
    present = flags([1, 1, 1], [1, 0, 1], [0, 0, 0])
    assert vector(Sum, 3, 2).fuse(vectors, present).tolist() == [[11, 2], [8, -3], [0, 0]]
    assert vector(Product, 3, 2).fuse(vectors, present).tolist() == [[21, 10], [7, 2], [1, 1]]
    assert vector(Maximum, 3, 2).fuse(vectors, present).tolist() == [[7, 5], [7, -1], [0, 0]]
    weighted = vector(Weighted, 3, 2)
    weighted.theta.data = torch.tensor([math.log(1.0), math.log(2.0), math.log(3.0)])
    expected = torch.tensor([[28 / 6, 5 / 6], [22 / 4, -5 / 4], [11 / 3, 2 / 3]])
    torch.testing.assert_close(weighted.fuse(vectors, present), expected)


def test_attention_weights_by_hand() -> None:
    fusion = vector(Weighted, 2, 4, input_dependent=True)
    nn.init.zeros_(fusion.score.weight)
    nn.init.zeros_(fusion.score.bias)
    # Head 2 (unit 2 of 4) of input a scores ln 3 times the first unit of b.
    fusion.score.weight.data[2, 4] = math.log(3.0)
    vectors = torch.tensor([[[8.0, 8.0, 8.0, 8.0], [1.0, 0.0, 0.0, 0.0]]] * 2)
    out = fusion.fuse(vectors, flags([1, 1], [0, 1]))
    torch.testing.assert_close(out, torch.tensor([[4.5, 4.0, 6.0, 4.0], [1.0, 0.0, 0.0, 0.0]]))


def test_concat_reads_the_missing_embedding_and_the_flags() -> None:
    fusion = vector(Concat, 2, 2, num_layers=0)
    linear = fusion.layers[-1]
    nn.init.zeros_(linear.bias)
    linear.weight.data = torch.tensor([[1.0, 0, 0, 10, 0, 0], [0, 0, 0, 0, 5, 7]])
    vectors = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]] * 2)
    assert fusion.fuse(vectors, flags([1, 1], [1, 0])).tolist() == [[41, 12], [41, 5]]


def test_concat_layers_and_dropout() -> None:
    sizes = [sum(p.numel() for p in vector(Concat, 2, 4, num_layers=n).parameters()) for n in range(3)]
    assert sizes == [10 * 4 + 4, 10 * 8 + 8 + 8 * 4 + 4, 10 * 8 + 8 + 8 * 8 + 8 + 8 * 4 + 4]
    vectors, present = torch.ones(64, 2, 4), torch.ones(64, 2, dtype=torch.bool)
    for layers in (0, 1):
        noisy = vector(Concat, 2, 4, num_layers=layers, dropout=0.5).train()
        assert noisy.fuse(vectors, present).std(0).amin() > 0
        assert noisy.eval().fuse(vectors, present).std(0).amax() < 1e-5


def test_gated_by_hand() -> None:
    fusion = vector(Gated, 2, 1)
    for linear, value in zip(fusion.contents, (1.0, 2.0), strict=True):
        linear.weight.data.fill_(value)
        linear.bias.data.zero_()
    fusion.gates.weight.data = torch.tensor([[1.0, -1.0], [0.5, 0.25]])
    fusion.gates.bias.data.zero_()

    def sigmoid(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    first, second = math.tanh(0.3) * sigmoid(0.3 + 0.4), math.tanh(-0.8) * sigmoid(0.15 - 0.1)
    out = fusion.fuse(torch.tensor([[[0.3], [-0.4]]] * 3), flags([1, 1], [1, 0], [0, 0]))
    torch.testing.assert_close(out, torch.tensor([[first + second], [first], [0.0]]))


def test_film_by_hand() -> None:
    fusion = FiLM(FiLM.Options(), inputs=["image", "question"], width=2)
    fusion.project.weight.data, fusion.project.bias.data = torch.eye(2), torch.zeros(2)
    fusion.modulate.weight.data = torch.tensor([[1.0, 0], [0, 1.0], [0, 2.0], [0, 0]])
    fusion.modulate.bias.data = torch.tensor([0.0, 0.0, 0.0, 1.0])
    image = torch.tensor([[[1.0, -1.0], [2.0, 3.0]]] * 3)
    question = torch.tensor([[[0.0, 1.0], [4.0, 3.0]]] * 3)
    real = torch.ones(3, 2, dtype=torch.bool)
    tokens = {
        "image": Tokens(image, flags([1, 1], [1, 1], [1, 0]), flags([1, 1, 0])[0]),
        "question": Tokens(question, real, flags([1, 0, 1])[0]),
    }
    (view,) = fusion(tokens)
    # Question [2, 2]: gamma = [2, 2], beta = [4, 1]; row 1 lacks it (identity), row 2 lacks the image.
    assert view.tokens.features.tolist() == [[[7, 0], [10, 10]], [[1, 0], [2, 3]], [[7, 0], [10, 10]]]
    assert view.tokens.mask.tolist() == [[True, True], [True, True], [True, False]]
    assert view.pooled.tolist() == [[8.5, 5], [1.5, 1.5], [7, 0]]
    assert view.weight.tolist() == [1, 1, 1]


def test_film_masks_other_missing_inputs_and_knows_its_condition() -> None:
    fusion = FiLM(FiLM.Options(conditioning_input="a"), inputs=["a", "b", "c"], width=WIDTH)
    missing = flags([0, 1, 0], [0, 1, 1], [1, 1, 1])
    (view,) = fusion(batch(3, "abc", length=2, missing=missing))
    alone = [True, False, True, False]
    assert view.tokens.mask.tolist() == [[False, False, True, True], alone, alone]
    assert view.weight.tolist() == [1, 1, 0]
    with pytest.raises(RecipeError, match=r"unknown input 'imge'; did you mean 'image'"):
        FiLM(FiLM.Options(conditioning_input="imge"), inputs=["image", "text"], width=2)


def test_bilinear_low_rank_forms_by_hand() -> None:
    one = torch.tensor([[[1.0, 2.0], [3.0, -1.0]]] * 2)
    present = flags([1, 1], [0, 1])
    mlb = vector(Bilinear, 2, 2, variant="mlb", rank=1)
    mlb.factors[0].weight.data, mlb.factors[1].weight.data = (
        torch.tensor([[0.1, 0.2]]),
        torch.tensor([[0.3, 0.1]]),
    )
    mlb.project.weight.data, mlb.project.bias.data = torch.tensor([[1.0], [2.0]]), torch.tensor([0.5, 0.0])
    for linear in mlb.factors:
        nn.init.zeros_(linear.bias)
    both, second = math.tanh(0.5) * math.tanh(0.8), math.tanh(0.8)
    expected = torch.tensor([[both + 0.5, 2 * both], [second + 0.5, 2 * second]])
    torch.testing.assert_close(mlb.fuse(one, present), expected)

    mfb = vector(Bilinear, 2, 2, variant="mfb", rank=2)
    for linear, value in zip(mfb.factors, (1.0, 2.0), strict=True):
        linear.weight.data = torch.cat([torch.eye(2), torch.eye(2) * value])
        nn.init.zeros_(linear.bias)
    # Row 0: [1*3, 2*-1] + [1*6, 2*-2] = [9, -6]; row 1: [3, -1] + [6, -2] = [9, -3].
    rooted = torch.tensor([[3.0, -math.sqrt(6)], [3.0, -math.sqrt(3)]])
    expected = math.sqrt(2) * rooted / rooted.norm(dim=1, keepdim=True)
    torch.testing.assert_close(mfb.fuse(one, present), expected, atol=1e-4, rtol=1e-4)

    mutan = vector(Bilinear, 2, 2, variant="mutan", rank=4)
    for linear in [*mutan.reduce, *mutan.factors]:
        nn.init.zeros_(linear.bias)
        linear.weight.data = torch.eye(2).repeat(linear.out_features // 2, 1)
    expected = 2 * torch.stack([one[0, 0].tanh() * one[0, 1].tanh(), one[0, 1].tanh()])
    torch.testing.assert_close(mutan.fuse(one, present), expected)


def test_bilinear_full_by_hand() -> None:
    full = vector(Bilinear, 3, 2, variant="full")
    for tensor, linear in zip(full.tensors, full.linear, strict=True):
        nn.init.zeros_(tensor)
        nn.init.zeros_(linear.weight)
        linear.bias.data = torch.tensor([0.0, 1.0])
        tensor.data[0, 0, 1] = 1.0  # z_0 = state_0 * next_1
    full.linear[0].weight.data[1, 3] = 2.0  # z_1 = 2 next_1 + 1 at the first step
    out = full.fuse(torch.tensor([[[2.0, 9.0], [9.0, 3.0], [9.0, 5.0]]]), flags([1, 1, 1]))
    assert out.tolist() == [[2 * 3 * 5, 1]]
    alone = torch.randn(3, 1, 2)
    assert torch.equal(vector(Bilinear, 1, 2, variant="full").fuse(alone, flags([1], [1], [0])), alone[:, 0])


def test_power_normalisation_is_smooth_at_zero() -> None:
    values = torch.tensor([[0.0, 0.0], [4.0, -9.0]], requires_grad=True)
    out = power_normalize(values)
    torch.autograd.backward(out.sum())
    assert out[0].tolist() == [0, 0]
    torch.testing.assert_close(out[1], torch.tensor([2.0, -3.0]) * math.sqrt(2 / 13), atol=1e-4, rtol=1e-4)
    assert values.grad is not None
    assert values.grad.isfinite().all()
    assert values.grad[0].abs().max() < 1e5


def test_tensor_holds_every_product() -> None:
    fusion = vector(TensorFusion, 2, 9, projection_dim=2)
    for linear in fusion.reduce:
        linear.weight.data = torch.eye(2, 9)
        nn.init.zeros_(linear.bias)
    fusion.project.weight.data, fusion.project.bias.data = torch.eye(9), torch.zeros(9)
    vectors = torch.zeros(3, 2, 9)
    vectors[:, 0, :2], vectors[:, 1, :2] = torch.tensor([2.0, 3.0]), torch.tensor([5.0, 7.0])
    out = fusion.fuse(vectors, flags([1, 1], [0, 1], [0, 0]))
    assert out[0].tolist() == [10, 14, 2, 15, 21, 3, 5, 7, 1]
    assert out[1].tolist() == [0, 0, 0, 0, 0, 0, 5, 7, 1]
    assert out[2].tolist() == [0, 0, 0, 0, 0, 0, 0, 0, 1]


def test_low_rank_by_hand_and_equal_to_its_full_tensor() -> None:
    fusion = vector(LowRank, 2, 3, rank=2)
    factors, weights = fusion.factors.detach(), fusion.weights.detach()
    assert {"factors", "weights", "bias"} == set(fusion.state_dict())
    vectors = torch.randn(5, 2, 3)
    extended = torch.cat([vectors, torch.ones(5, 2, 1)], -1)
    tensor = torch.einsum("r,rio,rjo->oij", weights, factors[0], factors[1])
    expected = torch.einsum("oij,bi,bj->bo", tensor, extended[:, 0], extended[:, 1])
    present = torch.ones(5, 2, dtype=torch.bool)
    torch.testing.assert_close(fusion.fuse(vectors, present), expected)
    gone = fusion.fuse(vectors, torch.zeros_like(present))
    torch.testing.assert_close(gone, weights.sum().expand(5, 3))


def test_sequential_skips_absent_inputs_and_minds_the_order() -> None:
    fusion = vector(Sequential, 3, 4)
    vectors = torch.randn(2, 3, 4)
    out = fusion.fuse(vectors, flags([1, 0, 1], [0, 0, 0]))
    state = fusion.cells[0](vectors[:1, 0], fusion.initial_state.expand(1, -1))
    torch.testing.assert_close(out[:1], fusion.cells[2](vectors[:1, 2], state))
    torch.testing.assert_close(out[1], fusion.initial_state)
    for cell in fusion.cells[1:]:
        cell.load_state_dict(fusion.cells[0].state_dict())
    swapped = fusion.fuse(vectors.flip(1), flags([1, 1, 1], [1, 1, 1]))
    assert not torch.allclose(fusion.fuse(vectors, flags([1, 1, 1], [1, 1, 1])), swapped, atol=1e-3)


def test_mixture_counts_only_the_top_experts() -> None:
    fusion = vector(MixtureOfExperts, 1, 2, num_experts=3, top_k=2)
    nn.init.zeros_(fusion.gate.weight)
    fusion.gate.bias.data = torch.log(torch.tensor([0.2, 0.5, 0.3]))
    for index, expert in enumerate(fusion.experts):
        nn.init.zeros_(expert[2].weight)
        nn.init.constant_(expert[2].bias, 10.0**index)
    out = fusion.fuse(torch.randn(2, 1, 2), flags([1], [0]))
    torch.testing.assert_close(out, torch.full((2, 2), 0.5 * 10 + 0.3 * 100))


def test_mixture_balance_is_a_training_penalty() -> None:
    assert imbalance(torch.tensor([[0.5, 0.5], [0.5, 0.5]])) == 0
    assert imbalance(torch.tensor([[1.0, 0.0], [0.0, 1.0]])) == 0
    torch.testing.assert_close(imbalance(torch.tensor([[1.0, 0.0], [0.5, 0.5]])), torch.tensor(0.25))
    fusion = make((MixtureOfExperts, {"load_balancing_weight": 0.5}, True, True))
    tokens = batch(8)
    penalty = decide(fusion, tokens).penalties["balance"]
    assert penalty.requires_grad
    assert penalty > 0
    double = make((MixtureOfExperts, {"load_balancing_weight": 1.0}, True, True))
    torch.testing.assert_close(decide(double, tokens).penalties["balance"], 2 * penalty)
    assert decide(fusion.eval(), tokens).penalties == {}


def test_confidences_by_hand() -> None:
    values = torch.tensor([[math.log(2.0), math.log(6.0)]])
    torch.testing.assert_close(confidence(values, "categorical"), torch.tensor([math.log(8.0)]))
    binary = confidence(torch.tensor([[0.0, -3.0]]), "binary")
    torch.testing.assert_close(binary, torch.tensor([(math.log(2.0) + math.log(1 + math.exp(3.0))) / 2]))
    assert confidence(values, "real").tolist() == [0]


def test_quality_weighs_decisions_by_energy() -> None:
    fusion = Quality(Quality.Options(temperature=2.0), inputs=["a", "b"], width=WIDTH)
    views = fusion(batch(3, missing=flags([0, 0], [0, 1], [1, 1])))
    first = torch.tensor([[math.log(8.0), math.log(1.0)]] * 3, requires_grad=True)
    second = torch.tensor([[math.log(0.5), math.log(0.5)]] * 3)
    outputs = fusion.combine([first, second], views, "categorical", "y")
    # exp(c / 2) = 3 and 1: shares 3/4 and 1/4; row 1 has only a; row 2 has none and counts both equally.
    expected = torch.stack([0.75 * first[0] + 0.25 * second[0], first[1], (first[2] + second[2]) / 2])
    torch.testing.assert_close(outputs.values, expected)
    assert [term.name for term in outputs.terms] == ["joint", "a", "b"]
    assert [term.weight.tolist() for term in outputs.terms] == [[1, 1, 1], [1, 1, 0], [1, 0, 0]]
    assert set(outputs.per_branch) == {"a", "b"}
    (gradient,) = torch.autograd.grad(outputs.values[0, 0], first)
    torch.testing.assert_close(gradient[0], torch.tensor([0.75, 0.0]))


def test_quality_learned_confidence_weighs_real_outputs() -> None:
    fusion = Quality(Quality.Options(learned_confidence=True), inputs=["a", "b"], width=WIDTH)
    views = fusion(batch(2))
    decoded = [torch.full((2, 1), 4.0), torch.full((2, 1), 8.0)]
    assert fusion.combine(decoded, views, "real", "y").values.tolist() == [[6], [6]]
    assert fusion.learned is not None
    nn.init.constant_(fusion.get_parameter("learned.0.bias"), math.log(3.0))
    torch.testing.assert_close(fusion.combine(decoded, views, "real", "y").values, torch.full((2, 1), 5.0))


# Options


def test_options_that_a_variant_does_not_use_are_rejected() -> None:
    with pytest.raises(ValidationError, match="rank has no effect with variant 'full'"):
        Bilinear.Options(variant="full", rank=3)
    with pytest.raises(ValidationError, match="only 2 experts"):
        MixtureOfExperts.Options(num_experts=2, top_k=3)
    with pytest.raises(ValidationError):
        Concat.Options(num_layers=-1)


@every_method
def test_complete_options_can_be_read_back(method: Any) -> None:
    options: Any = method[0].Options
    given = options(**method[1])
    assert options(**given.model_dump()) == given


@pytest.mark.parametrize("form", ["mlb", "mfb", "mutan"])
def test_rank_is_live_in_every_form_that_has_it(form: str) -> None:
    sizes = {sum(p.numel() for p in vector(Bilinear, 2, 5, variant=form, rank=r).parameters()) for r in (1, 2, 7)}
    assert len(sizes) == 3


@pytest.mark.parametrize("form", ["mlb", "mfb", "mutan", "full"])
def test_bilinear_dropout_is_live_in_every_form(form: str) -> None:
    fusion = vector(Bilinear, 2, 5, variant=form, dropout=0.5).train()
    vectors, present = torch.ones(64, 2, 5), torch.ones(64, 2, dtype=torch.bool)
    assert fusion.fuse(vectors, present).std(0).amin() > 0


def test_too_large_products_are_rejected() -> None:
    with pytest.raises(RecipeError, match=r"projection_dim: .* 5 inputs with projection_dim 16 has 1419857 numbers"):
        vector(TensorFusion, 5, 4, projection_dim=16)
    with pytest.raises(RecipeError, match=r"'full' with 3 inputs of width 300"):
        vector(Bilinear, 3, 300, variant="full")
