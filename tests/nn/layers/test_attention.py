"""Attention: equivalent kernels, masks, rows without keys; Transformer blocks and positions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from polymodal.nn.layers import attention as module
from polymodal.nn.layers.attention import MultiHeadAttention, fused_attention, plain_attention
from polymodal.nn.layers.transformer import CrossAttentionBlock, TransformerBlock, sinusoidal_positions

torch.set_num_threads(1)


def example(keys: int = 7) -> tuple[MultiHeadAttention, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    mask = torch.rand(3, keys) > 0.4
    mask[1] = False
    return MultiHeadAttention(16, 4), torch.randn(3, 5, 16), torch.randn(3, keys, 16), mask


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("paired", [True, False])
def test_both_kernels_give_the_same_values_and_gradients(
    monkeypatch: pytest.MonkeyPatch, masked: bool, paired: bool
) -> None:
    layer, x, context, mask = example()
    pair_mask = torch.rand(1, 5, 7) > 0.3 if paired else None
    results = []
    for length in (0, 10_000):
        monkeypatch.setitem(module.MAX_PLAIN_LENGTH, torch.float32, length)
        query = x.clone().requires_grad_(True)
        out = layer(query, context, mask if masked else None, pair_mask)
        out.square().sum().backward()
        results.append((out.detach(), query.grad))
    torch.testing.assert_close(results[0][0], results[1][0], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(results[0][1], results[1][1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("number", [torch.float32, torch.bfloat16])
def test_the_length_selects_the_kernel(monkeypatch: pytest.MonkeyPatch, number: torch.dtype) -> None:
    used = []
    for name, kernel in (("plain_attention", plain_attention), ("fused_attention", fused_attention)):
        monkeypatch.setattr(module, name, lambda *a, n=name, k=kernel: used.append(n) or k(*a))
    layer, longest = MultiHeadAttention(4, 1).to(number), module.MAX_PLAIN_LENGTH[number]
    layer(torch.randn(1, longest, 4, dtype=number))
    layer(torch.randn(1, 1, 4, dtype=number), torch.randn(1, longest + 1, 4, dtype=number))
    assert used == ["plain_attention", "fused_attention"]


@pytest.mark.parametrize("length", [0, 10_000])
def test_a_row_without_keys_gives_zeros_and_finite_gradients(monkeypatch: pytest.MonkeyPatch, length: int) -> None:
    monkeypatch.setitem(module.MAX_PLAIN_LENGTH, torch.float32, length)
    layer, x, context, mask = example()
    x, context = x.requires_grad_(True), context.requires_grad_(True)
    out = layer(x, context, mask)
    assert (out[1] == 0).all()
    assert (out[0] != 0).any()
    out.sum().backward()
    for tensor in (x, context, *layer.parameters()):
        assert torch.isfinite(tensor.grad).all()
    assert (x.grad[1] == 0).all()
    assert (context.grad[1] == 0).all()


@pytest.mark.parametrize("length", [0, 10_000])
def test_masked_keys_have_no_influence(monkeypatch: pytest.MonkeyPatch, length: int) -> None:
    monkeypatch.setitem(module.MAX_PLAIN_LENGTH, torch.float32, length)
    layer, x, context, mask = example()
    other = torch.where(mask.unsqueeze(-1), context, 1e3)
    torch.testing.assert_close(layer(x, context, mask), layer(x, other, mask), atol=1e-5, rtol=0)


def test_pair_mask_blocks_single_queries() -> None:
    layer, x, context, _ = example()
    pair_mask = torch.ones(1, 5, 7, dtype=torch.bool)
    pair_mask[0, 2, 3] = False
    context.requires_grad_(True)
    layer(x, context, None, pair_mask)[:, 2].sum().backward()
    assert (context.grad[:, 3] == 0).all()
    assert (context.grad[:, 4] != 0).any()


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="3 heads do not divide a width of 16"):
        MultiHeadAttention(16, 3)


def test_dropout_only_in_training() -> None:
    block, x = TransformerBlock(16, 4, 0.5), torch.randn(2, 6, 16)
    assert not torch.equal(block(x), block(x))
    block.eval()
    assert torch.equal(block(x), block(x))


def test_gated_cross_attention_block_starts_as_the_identity() -> None:
    torch.manual_seed(0)
    block, x, context = CrossAttentionBlock(16, 4, 0.0, gated=True), torch.randn(2, 3, 16), torch.randn(2, 4, 16)
    assert torch.equal(block(x, context), x)
    block(x, context).square().sum().backward()
    assert (block.alpha.grad != 0).all()
    with torch.no_grad():
        block.alpha.sub_(0.1 * block.alpha.grad)
    assert not torch.allclose(block(x, context), x)


def test_blocks_at_batch_and_length_one() -> None:
    x = torch.randn(1, 1, 8)
    assert TransformerBlock(8, 2, 0.0)(x, torch.ones(1, 1, dtype=torch.bool)).shape == (1, 1, 8)
    assert CrossAttentionBlock(8, 2, 0.0)(x, torch.randn(1, 1, 8)).shape == (1, 1, 8)


@pytest.mark.parametrize("width", [1, 7, 8])
def test_positions_differ_and_follow_the_formula(width: int) -> None:
    positions = sinusoidal_positions(50, width)
    assert positions.shape == (50, width)
    assert float(positions[3, 0]) == pytest.approx(float(torch.tensor(3.0).sin()))
    if width > 2:
        assert float(positions[3, 3]) == pytest.approx(float((3 / torch.tensor(1e4) ** (2 / width)).cos()))
    assert len(torch.unique(positions, dim=0)) == 50
