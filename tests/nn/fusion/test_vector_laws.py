"""Laws of every fusion method that sees one vector per input: rows, missing inputs, padding, gradients."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from nn.fusion.vectors import WIDTH, batch, decide, every_method, flags, make
from polymodal.core.types import Space, Tokens
from polymodal.nn.fusion.film import FiLM
from polymodal.nn.fusion.quality import Quality
from polymodal.nn.fusion.weighted import Weighted

# Laws of every method


@every_method
@pytest.mark.parametrize("inputs", ["a", "ab", "abc", "abcd"])
@pytest.mark.parametrize("rows", [1, 4])
def test_any_number_of_inputs_and_rows(method: Any, inputs: str, rows: int) -> None:
    fusion = make(method, inputs)
    for view in fusion(batch(rows, inputs)):
        assert view.pooled.shape == (rows, WIDTH)
        assert view.tokens.features.shape[::2] == (rows, WIDTH)
        assert view.weight.tolist() == [1.0] * rows
    assert decide(fusion, batch(rows, inputs)).values.shape == (rows, 3)


@every_method
@pytest.mark.parametrize("space", ["categorical", "binary", "real"])
def test_every_subset_is_finite(method: Any, space: Space) -> None:
    missing = flags(*([i & 1, i >> 1 & 1, i >> 2 & 1] for i in range(8)))
    fusion = make(method, "abc")
    outputs = decide(fusion, batch(8, "abc", missing=missing), space)
    assert outputs.values.isfinite().all()
    if outputs.values.requires_grad:
        torch.autograd.backward(outputs.values.sum())
    assert all(p.grad is None or p.grad.isfinite().all() for p in fusion.parameters())
    if fusion.level == "feature":
        (view,) = fusion(batch(8, "abc", missing=missing))
        assert view.weight.tolist() == [1.0] * 7 + [0.0]


@every_method
def test_rows_do_not_mix(method: Any) -> None:
    fusion = make(method, "abc").eval()
    tokens = batch(5, "abc", missing=flags([0, 0, 0], [1, 0, 0], [0, 1, 1], [1, 1, 1], [0, 0, 1]))
    together = decide(fusion, tokens).values
    for row in range(5):
        one = {n: Tokens(t.features[[row]], t.mask[[row]], t.present[[row]]) for n, t in tokens.items()}
        torch.testing.assert_close(decide(fusion, one).values, together[[row]])


@every_method
def test_missing_inputs_are_left_out_where_the_method_says_so(method: Any) -> None:
    fusion = make(method, "abc").eval()
    tokens = batch(2, "abc", missing=flags([0, 1, 0], [0, 1, 0]))
    before = decide(fusion, tokens).values
    changed = dict(tokens, b=tokens["b"].with_features(tokens["b"].features + 3.0))
    same = torch.equal(decide(fusion, changed).values, before)
    # FiLM reads the "missing" embedding only when every other input but the condition is gone.
    assert same == (method[3] or method[0] is FiLM)


@every_method
def test_present_inputs_count_and_padding_does_not(method: Any) -> None:
    fusion = make(method, "ab").eval()
    tokens = batch(4)
    before = decide(fusion, tokens).values
    for name in "ab":
        other = tokens[name].with_features(tokens[name].features.flip(0))
        assert (decide(fusion, {**tokens, name: other}).values - before).abs().amax() > 1e-3
        extra = torch.full((4, 1, WIDTH), 100.0)
        padded = Tokens(
            torch.cat([tokens[name].features, extra], 1),
            torch.cat([tokens[name].mask, torch.zeros(4, 1, dtype=torch.bool)], 1),
            tokens[name].present,
        )
        torch.testing.assert_close(decide(fusion, {**tokens, name: padded}).values, before)


@every_method
@pytest.mark.parametrize("inputs", ["a", "ab", "abc"])
def test_every_parameter_gets_a_gradient(method: Any, inputs: str) -> None:
    fusion = make(method, inputs)
    outputs = decide(fusion, batch(64, inputs))
    losses = [term.values.square().sum() for term in outputs.terms]
    loss = torch.stack([*losses, *outputs.penalties.values()]).sum()
    if not list(fusion.parameters()):
        return
    torch.autograd.backward(loss)
    for name, parameter in fusion.named_parameters():
        assert parameter.grad is not None, name
        # A softmax over one input is 1 whatever its score; everything else must move.
        if not (inputs == "a" and method[0] in (Weighted, Quality)):
            assert parameter.grad.abs().sum() > 0, name


@every_method
def test_gradients_are_finite_at_exact_zeros(method: Any) -> None:
    fusion = make(method)
    features = {name: torch.zeros(3, 1, WIDTH, requires_grad=True) for name in "ab"}
    for parameter in fusion.parameters():
        nn.init.zeros_(parameter)
    seen = torch.ones(3, dtype=torch.bool)
    outputs = decide(fusion, {n: Tokens(f, seen[:, None], seen) for n, f in features.items()})
    losses = [outputs.values.square().sum(), outputs.values.sum(), *outputs.penalties.values()]
    torch.autograd.backward(torch.stack(losses).sum())
    for tensor in [*features.values(), *fusion.parameters()]:
        assert tensor.grad is None or tensor.grad.isfinite().all()
        assert tensor.grad is None or tensor.grad.abs().max() < 1e6


@every_method
def test_interacts_says_whether_the_fused_vector_is_additive(method: Any) -> None:
    """Additive: f(a, b) - f(a', b) does not depend on b."""
    fusion = make(method).eval()
    assert fusion.models_interactions == method[2]
    if fusion.level == "decision":
        return
    tokens = batch(8, length=1)
    a, b = tokens["a"], tokens["b"]
    a2, b2 = a.with_features(a.features.flip(0)), b.with_features(b.features.roll(3, 0))
    corners = [fusion({"a": x, "b": y})[0].pooled for x, y in [(a, b), (a2, b), (a, b2), (a2, b2)]]
    mixed = (corners[0] - corners[1] - corners[2] + corners[3]).abs().amax()
    assert (mixed > 1e-3) == method[2]


@every_method
def test_can_be_copied_between_forward_and_backward(method: Any) -> None:
    fusion, tokens = make(method), batch(4)
    decide(fusion, tokens)
    twin = copy.deepcopy(fusion).eval()
    assert torch.equal(decide(twin, tokens).values, decide(fusion.eval(), tokens).values)
