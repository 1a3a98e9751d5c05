"""Kernels are used where the processor has them; where it does not, another way gives the same numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from polymodal.checkpoint.int8 import Int8Linear, quantize
from polymodal.runtime.cpu_kernels import (
    INT8_MAX,
    can_prepack,
    prepack,
    prepacked_linear,
    supports_bf16,
    supports_int8,
)
from polymodal.runtime.prepacked_linear import PrepackedLinear
from processors import OLDER, can_limit, run_limited

PROGRAM = """
import sys
from safetensors.torch import load_file, save_file
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/.."]
from test_cpu_kernels import products
save_file(products(load_file(sys.argv[2])), sys.argv[3])
"""


def given_tensors() -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(0)
    return {
        "weight": torch.randn(48, 130, generator=draw),
        "bias": torch.randn(48, generator=draw),
        "x": torch.randn(9, 130, generator=draw).abs() * torch.logspace(-2, 2, 9).unsqueeze(1),
    }


def products(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """One layer in every way that has a kernel of its own, and what the processor says to be able to."""
    layer = nn.Linear(130, 48)
    layer.load_state_dict({"weight": tensors["weight"], "bias": tensors["bias"]})
    layer.requires_grad_(False)
    found = {"int8": Int8Linear(layer)(tensors["x"])}
    for name, kind in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        model = nn.Sequential(layer)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=name == "bf16"):
            found[name] = model(tensors["x"])
            with PrepackedLinear(model).enabled():
                assert ("forward" in vars(layer)) == can_prepack(kind)
                found[f"{name} packed"] = model(tensors["x"])
    return found | {"can": torch.tensor([supports_bf16(), supports_int8()])}


@pytest.mark.parametrize("level", OLDER)
def test_an_older_processor_gives_the_same_numbers(level: str, tmp_path: Path) -> None:
    if not can_limit(level):
        pytest.skip("this processor has no more instructions")
    save_file(given_tensors(), tmp_path / "given")
    run_limited(level, ["-c", PROGRAM, str(Path(__file__).parent), str(tmp_path / "given"), str(tmp_path / "found")])
    found, here = load_file(tmp_path / "found"), products(given_tensors())
    assert not found["can"].any()
    torch.testing.assert_close(found["int8"], here["int8"], rtol=1e-6, atol=1e-6)
    for name in ("fp32", "fp32 packed"):
        torch.testing.assert_close(found[name], here["fp32"], rtol=1e-4, atol=1e-4)
    for name in ("bf16", "bf16 packed"):
        assert found[name].dtype == torch.bfloat16
        torch.testing.assert_close(found[name], here["bf16"], rtol=0.02, atol=0.02)


@st.composite
def large_products(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Inputs and weights whose products saturate sums of 16 bits: large numbers of one sign, or at one end."""
    rows, width = draw(st.sampled_from([1, 2, 7, 8, 33, 70])), draw(st.integers(1, 200) | st.sampled_from([1041, 4096]))
    outputs, seed = draw(st.sampled_from([1, 3, 16, 65])), draw(st.integers(0, 2**31))
    generator = torch.Generator().manual_seed(seed)
    found = []
    for shape in ((rows, width), (outputs, width)):
        sign = draw(st.sampled_from([1.0, -1.0, 0.0]))
        values = torch.rand(shape, generator=generator) * 0.2 + 0.9 if sign else torch.randn(shape, generator=generator)
        found.append((sign or 1.0) * values * 10.0 ** draw(st.integers(-4, 4)))
    return found[0], found[1]


@given(large_products(), st.booleans())
@settings(max_examples=150, deadline=None)
def test_int8_is_fp32_but_for_its_rounding(drawn: tuple[Tensor, Tensor], bf16: bool) -> None:
    """Within the bound that follows from the two scales, also where sums of 16 bits would saturate."""
    x, weight = (one.bfloat16().float() for one in drawn) if bf16 else drawn
    layer = nn.Linear(weight.shape[1], len(weight), bias=False)
    layer.weight = nn.Parameter(weight, requires_grad=False)
    found = Int8Linear(layer)(x.bfloat16() if bf16 else x)
    exact = x.double() @ weight.double().t()
    x_step, weight_step = x.abs().amax(1, keepdim=True).double() / 127, weight.abs().amax(1).double() / 127
    bound = x_step / 2 * weight.abs().sum(1) + weight_step / 2 * x.abs().sum(1, keepdim=True)
    bound = bound + x_step * weight_step * weight.shape[1] / 4
    rounding = (2**-8 if bf16 else 1e-5) * (exact.abs() + bound)
    assert bool(((found.double() - exact).abs() <= bound + rounding).all())


@given(large_products())
@settings(max_examples=100, deadline=None)
def test_sums_of_integers_are_exact(drawn: tuple[Tensor, Tensor]) -> None:
    """The kernel and what replaces it give the sums of the same integers, exact up to 1,040 inputs."""
    x, weight = drawn
    integers, scale = quantize(weight)
    layer = nn.Linear(weight.shape[1], len(weight), bias=False)
    layer.weight = nn.Parameter(weight, requires_grad=False)
    x_scale = x.abs().amax(1, keepdim=True) / INT8_MAX
    wanted = ((x / x_scale).round().double() @ integers.double().t()).float() * scale * x_scale
    few = weight.shape[1] <= 1040 or supports_int8()
    torch.testing.assert_close(Int8Linear(layer)(x), wanted, rtol=3e-7 if few else 1e-5, atol=0)


@given(large_products(), st.sampled_from([torch.float32, torch.bfloat16]))
@settings(max_examples=60, deadline=None)
def test_prepacked_products_are_products(drawn: tuple[Tensor, Tensor], kind: torch.dtype) -> None:
    x, weight = (one.to(kind) for one in drawn)
    if not can_prepack(kind):
        return
    found = prepacked_linear(x, prepack(weight, 8), None)
    exact, size = x.double() @ weight.double().t(), x.double().abs() @ weight.double().abs().t()
    rounding = 2**-8 if kind == torch.bfloat16 else 1e-5
    assert bool(((found.double() - exact).abs() <= rounding * size).all())


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_a_format_that_is_said_to_be_packed_is(kind: torch.dtype) -> None:
    if not can_prepack(kind):
        pytest.skip("this processor has no kernel for it")
    weight, bias, x = (one.to(kind) for one in given_tensors().values())
    found = prepacked_linear(x, prepack(weight, 8), bias)
    torch.testing.assert_close(found, nn.functional.linear(x, weight, bias), rtol=0.02, atol=0.02)


def test_nothing_is_packed_in_formats_without_a_kernel() -> None:
    assert not can_prepack(torch.float16)
    assert not can_prepack(torch.float64)


def test_int8_kernels_are_for_the_cpu() -> None:
    """On another device nothing is packed for them; the integers are multiplied there, in fp32."""
    layer = Int8Linear(nn.Linear(64, 8, device="meta"))
    assert layer._matrix.device.type == "meta"
