"""Kernels are used where the processor has them; where it does not, another way gives the same numbers."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from polymodal.checkpoint.int8 import Int8Linear
from polymodal.runtime.cpu_kernels import (
    can_prepack,
    int8_linear,
    prepack,
    prepack_int8,
    prepacked_linear,
    supports_bf16,
    supports_int8,
)
from polymodal.runtime.prepacked_linear import PrepackedLinear

#: What lets torch and oneDNN use no more of an x86 processor than AVX2.
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
PROGRAM = """
import sys
from safetensors.torch import load_file, save_file
sys.path.insert(0, sys.argv[1])
from test_cpu_kernels import products
save_file(products(load_file(sys.argv[2])), sys.argv[3])
"""


def given() -> dict[str, Tensor]:
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


def test_a_processor_with_avx2_alone_gives_the_same_numbers(tmp_path: Path) -> None:
    save_file(given(), tmp_path / "given")
    arguments = [str(Path(__file__).parent), str(tmp_path / "given"), str(tmp_path / "found")]
    subprocess.run([sys.executable, "-c", PROGRAM, *arguments], env=os.environ | AVX2, check=True)
    found, here = load_file(tmp_path / "found"), products(given())
    if platform.machine() in ("x86_64", "AMD64"):
        assert not found["can"].any()
    torch.testing.assert_close(found["int8"], here["int8"], rtol=1e-6, atol=1e-6)
    for name in ("fp32", "fp32 packed"):
        torch.testing.assert_close(found[name], here["fp32"], rtol=1e-4, atol=1e-4)
    for name in ("bf16", "bf16 packed"):
        assert found[name].dtype == torch.bfloat16
        torch.testing.assert_close(found[name], here["bf16"], rtol=0.02, atol=0.02)


def test_the_largest_integers_are_multiplied_rightly_where_they_are_said_to_be() -> None:
    if not supports_int8():
        pytest.skip("this processor does not multiply eight-bit integers")
    draw = torch.Generator().manual_seed(0)
    for rows, wide, out in ((1, 4096, 1), (3, 65, 70), (200, 96, 384)):
        x = torch.randint(-127, 128, (rows, wide), generator=draw).float()
        weight = torch.randint(-127, 128, (out, wide), generator=draw, dtype=torch.int8)
        x[0], weight[0] = 127, 127
        wanted = (x.double() @ weight.double().t()).float()
        assert torch.equal(int8_linear(x, prepack_int8(weight), torch.ones(out)), wanted)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_a_format_that_is_said_to_be_packed_is(kind: torch.dtype) -> None:
    if not can_prepack(kind):
        pytest.skip("this processor has no kernel for it")
    weight, bias, x = (one.to(kind) for one in given().values())
    found = prepacked_linear(x, prepack(weight, 8), bias)
    torch.testing.assert_close(found, nn.functional.linear(x, weight, bias), rtol=0.02, atol=0.02)


def test_nothing_is_packed_in_formats_without_a_kernel() -> None:
    assert not can_prepack(torch.float16)
    assert not can_prepack(torch.float64)
