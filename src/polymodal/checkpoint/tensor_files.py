"""Tensors as safetensors files, written atomically."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from polymodal.core.errors import OutputError
from polymodal.core.writing import atomic_path


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write tensors of any device as one safetensors file. A reader sees the old file or the new one.

    Raises:
        OutputError: the file cannot be written.
    """
    owned = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as part:
        try:
            save_file(owned, part, metadata=metadata)
        except SafetensorError as error:
            raise OutputError(f"{path} cannot be written: {error}") from error
