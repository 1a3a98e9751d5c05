"""The CPU kernels that torch has no public functions for, and whether this processor can run them.

Check before use: a kernel that the processor does not support raises an error or gives wrong numbers. The checks follow
what oneDNN may use (`ONEDNN_MAX_CPU_ISA` limits it), not what the processor could do.
"""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

#: Largest absolute value of a rounded input or weight.
INT8_MAX = 127
#: Numbers of rows to test the int8 kernel with: oneDNN uses different code for one row and for many.
_TRIED_ROWS = (1, 8, 64)
_TRIED_WIDTH = 64


#: Variables that limit the instructions of torch and of oneDNN (the last two are the same limit).
LIMITS = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
#: Values of `ONEDNN_MAX_CPU_ISA` with AVX-512 and without bf16 instructions.
_WITHOUT_BF16 = ("AVX512_CORE", "AVX512_CORE_VNNI")


def supports_bf16() -> bool:
    """Whether oneDNN multiplies matrices with the bf16 instructions of this processor.

    With AVX-512 but without these instructions, oneDNN converts to fp32 and back, which takes 2 to 9 times as long as
    fp32. Without AVX-512 it has no kernels for some layers, and an LSTM raises an error.
    """
    if not _has_bf16_kernels():
        return False
    if torch.cpu._is_avx512_supported():
        return torch.cpu._is_avx512_bf16_supported() and _onednn_limit() not in _WITHOUT_BF16
    return True


def can_prepack(kind: torch.dtype) -> bool:
    """Whether `prepack` and `prepacked_linear` work in this number format on this processor."""
    if kind == torch.bfloat16:
        return _has_bf16_kernels()
    return kind == torch.float32 and _has_onednn()


@cache
def processor_name() -> str:
    """The processor and the instructions that torch and oneDNN may use: equal names compute with equal kernels."""
    limits = [f"{name}={os.environ[name]}" for name in LIMITS if name in os.environ]
    native = "bf16" if supports_bf16() else "no bf16"
    facts = [platform.machine(), _model_name(), torch.backends.cpu.get_cpu_capability(), native, *limits]
    return ", ".join(facts)


def prepack(weight: Tensor, rows: int) -> Tensor:
    """A matrix `[out, in]` in the layout of oneDNN for products with `rows` rows.

    Only for dtypes with `can_prepack`; others raise RuntimeError.
    """
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), rows)
    return packed


def prepacked_linear(x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    """`[..., in]` -> `[..., out]` with a matrix from `prepack`; all tensors have the same dtype."""
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
    return y


@cache
def supports_int8() -> bool:
    """Whether oneDNN multiplies 8-bit integers correctly on this processor.

    x86 processors without VNNI add each two neighboring products in 16 bits, which saturates for large values. torch
    has no function to ask which of the two oneDNN does, so it is tested once with the largest values.
    """
    if not (_has_onednn() and "onednn" in torch.backends.quantized.supported_engines):
        return False
    weight = torch.full((_TRIED_WIDTH, _TRIED_WIDTH), INT8_MAX, dtype=torch.int8)
    scale = torch.ones(_TRIED_WIDTH)
    for rows in _TRIED_ROWS:
        x = torch.full((rows, _TRIED_WIDTH), float(INT8_MAX))
        y = int8_linear(x, prepack_int8(weight), scale)
        if not bool((y == INT8_MAX * INT8_MAX * _TRIED_WIDTH).all()):
            return False
    return True


def prepack_int8(weight: Tensor) -> Tensor:
    """Integers `[out, in]` int8 in the layout of `int8_linear`."""
    packed: Tensor = torch.ops.onednn.qlinear_prepack(weight, None)
    return packed


def int8_linear(x: Tensor, packed: Tensor, scale: Tensor) -> Tensor:
    """The products `[rows, out]` fp32 of integers with a matrix from `prepack_int8`, times `scale [out]`.

    x: `[rows, in]` fp32, integers from -127 to 127; overwritten

    The sums are exact only if `supports_int8` is true.
    """
    offset = INT8_MAX + 1  # the kernel multiplies unsigned numbers
    whole, zero = x.add_(offset).to(torch.uint8), torch.zeros(len(scale), dtype=torch.int32)
    y: Tensor = torch.ops.onednn.qlinear_pointwise(
        whole, 1.0, offset, packed, scale, zero, None, 1.0, 0, torch.float32, "none", [], ""
    )
    return y


def _has_bf16_kernels() -> bool:
    return _has_onednn() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _onednn_limit() -> str:
    return (os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or "").upper()


def _model_name() -> str:
    """The name of the processor, from Linux or else from Python."""
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text(encoding="utf-8", errors="replace").splitlines() if facts.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "CPU part"))]
    return names[0] if names else platform.processor()


def _has_onednn() -> bool:
    return bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]  # torch has no hint there
