"""Reading of saved files: whatever is in them, the result is what was written or an `ArtifactError` with the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from polymodal.core.errors import ArtifactError, PolymodalError


@contextmanager
def parsing(file: Path) -> Iterator[None]:
    """Build objects from the content of `file`. Every error in the block is an `ArtifactError` that names the file,
    because tokenizers, networks and arrays refuse wrong content with errors of many types.

    Example:
        >>> with parsing(Path("m/preparation.json")):
        ...     {}["labels"]
        Traceback (most recent call last):
        polymodal.core.errors.ArtifactError: m/preparation.json does not hold what was saved (KeyError: 'labels'); ...
    """
    try:
        yield
    except (PolymodalError, MemoryError):
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ArtifactError(f"{file} does not hold what was saved ({reason}); restore it or save it again") from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        ArtifactError: the file cannot be read.
    """
    with parsing(path):
        return load_file(path)
