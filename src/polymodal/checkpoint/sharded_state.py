"""Training checkpoints of a sharded run: a folder in which each process writes its part of the tensors.

The parts are safetensors files of the distributed checkpoints of torch. Any number of processes can read them.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from polymodal.checkpoint.training_state_file import TrainingState
from polymodal.core.checksum import file_checksum
from polymodal.core.errors import ArtifactError
from polymodal.core.writing import write_text

#: The file with everything but the tensors. It is written last.
FACTS = "facts.json"
#: The files with tensors.
PARTS = "*.safetensors"


def write_part(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write the part of this process. All processes must call this with the same names."""
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    with _quiet():
        save(dict(tensors), storage_writer=HuggingFaceStorageWriter(str(folder), save_distributed=True))


def write_facts(folder: Path, metadata: Mapping[str, Any]) -> None:
    """Complete a checkpoint of which all parts are written."""
    files = {file.name: file_checksum(file) for file in sorted(folder.glob(PARTS))}
    write_text(folder / FACTS, json.dumps({"metadata": metadata, "files": files}))


def read_facts(folder: Path) -> dict[str, Any]:
    """The values of a checkpoint that are no tensors.

    Raises:
        ArtifactError: a file is missing or damaged.
    """
    with _damaged(folder):
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        found: dict[str, Any] = facts["metadata"]
        wrong = [name for name, checksum in facts["files"].items() if file_checksum(folder / name) != checksum]
        if wrong:
            raise ValueError(f"{wrong[0]} does not have its checksum")
        return found


def read_tensors(folder: Path, pattern: Callable[[str], Tensor | None], *, alone: bool) -> dict[str, Tensor]:
    """The tensors of a checkpoint on the CPU, or divided among the processes.

    pattern: a divided tensor with the shape of a name; None: the whole tensor is read
    alone: whether only this process reads; otherwise all must call this

    Raises:
        ArtifactError: a file is damaged.
    """
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.state_dict_loader import load

    with _damaged(folder), _quiet():
        reader = HuggingFaceStorageReader(str(folder))
        tensors: dict[str, Any] = {}
        for name, saved in reader.read_metadata().state_dict_metadata.items():
            like = pattern(name)
            if like is None:
                tensors[name] = torch.empty(saved.size, dtype=saved.properties.dtype)  # type: ignore[union-attr]
            else:
                tensors[name] = torch.empty_like(like, dtype=saved.properties.dtype)  # type: ignore[union-attr]
        load(tensors, storage_reader=reader, no_dist=alone)
        return tensors


def read_whole(folder: Path) -> TrainingState:
    """A checkpoint with whole tensors, read by one process.

    Raises:
        ArtifactError: it is damaged.
    """
    metadata = read_facts(folder)
    return TrainingState(read_tensors(folder, lambda name: None, alone=True), metadata)


@contextmanager
def _damaged(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{folder} is damaged ({error}); delete it to train from the start") from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warning that one process reads alone, which is meant."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="torch.distributed")
        yield
