"""Law 11 again: the numeric parts of the tests pass with the instructions of an older processor."""

from __future__ import annotations

import pytest

from processors import can_limit, run_limited

#: The tests whose results depend on the kernels of the processor, in groups of similar duration.
NUMERIC = {
    "number formats": [
        "tests/runtime/test_cpu_kernels.py",
        "tests/runtime/test_autotune.py",
        "tests/applications/test_compress.py",
        "tests/nn/layers/test_attention.py",
        "tests/pretrained/test_layer_split.py",
        "tests/pretrained/test_language_models.py::test_prepacked_matrices_give_the_same_products",
    ],
    "networks": ["tests/laws/test_every_processor.py", "tests/laws/test_padding.py::test_of_every_encoder"],
}


@pytest.mark.skipif(not can_limit("AVX2"), reason="this processor has no more than AVX2, or is limited already")
@pytest.mark.parametrize("group", NUMERIC)
def test_numeric_parts_pass_with_avx2_only(group: str) -> None:
    told = run_limited("AVX2", ["-m", "pytest", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", *NUMERIC[group]])
    assert "[100%]" in told
