"""The checkpoint of a run: one file of process 0, or a folder to which the processes of a sharded run write."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from polymodal.checkpoint.sharded_state import FACTS, read_facts, read_tensors, read_whole, write_facts, write_part
from polymodal.checkpoint.training_state_file import TrainingState, read_checkpoint, write_checkpoint
from polymodal.core.errors import ArtifactError
from polymodal.distributed.divided import divided_like, is_divided
from polymodal.distributed.world import SINGLE, World
from polymodal.training.replicas import agree_on_state

FILE_NAME, FOLDER_NAME = "checkpoint.safetensors", "checkpoint"


@dataclass(frozen=True)
class RunCheckpoint:
    """Where a run keeps its state. A run can continue from either kind with any number of processes.

    folder: the folder of the run, which process 0 has; None keeps nothing
    world: the processes of the run
    """

    folder: Path | None
    world: World = SINGLE

    @property
    def file(self) -> Path | None:
        """The checkpoint of a run that is not sharded."""
        return None if self.folder is None else self.folder / FILE_NAME

    def read(self, pattern: Callable[[str], Tensor | None] | None = None) -> TrainingState | None:
        """The last state; None without one. All processes must call this.

        pattern: a divided tensor with the shape of a name in the state, in a sharded run; its tensors are divided alike

        Raises:
            ArtifactError: the checkpoint is damaged, or a process does not see it.
        """
        saved = self.world.agree(None if self.folder is None else [str(one) for one in _newest(self.folder)])
        if not saved:
            return None
        path = Path(saved[0])
        if pattern is not None and path.name != FILE_NAME:
            return self._read_own(path, pattern)
        state = None
        if self.world.is_first:
            state = read_checkpoint(path) if path.name == FILE_NAME else read_whole(path)
        state = agree_on_state(state, self.world)
        if state is None or pattern is None:
            return state
        return replace(state, tensors={name: _like(one, pattern(name)) for name, one in state.tensors.items()})

    def write(self, state: TrainingState) -> None:
        """Replace the checkpoint. All processes must call this."""
        if not any(map(is_divided, state.tensors.values())):
            if self.folder is not None:
                write_checkpoint(self.folder / FILE_NAME, state)
                shutil.rmtree(self.folder / FOLDER_NAME, ignore_errors=True)
            return
        own, steps = self.folder, state.metadata["history"]["steps"]
        base = Path(self.world.agree("" if own is None else str(own.resolve()))) / FOLDER_NAME
        partial, complete = base / f"step-{steps}.part", base / f"step-{steps}"
        self.world.first(lambda: _make_empty(partial))
        self._check_seen(partial)
        write_part(partial, state.tensors)

        def publish() -> None:
            write_facts(partial, state.metadata)
            shutil.rmtree(complete, ignore_errors=True)
            partial.rename(complete)
            for other in base.iterdir():
                if other != complete:
                    shutil.rmtree(other, ignore_errors=True)
            (base.parent / FILE_NAME).unlink(missing_ok=True)

        self.world.first(publish)

    def _read_own(self, path: Path, pattern: Callable[[str], Tensor | None]) -> TrainingState:
        """The parts of this process."""
        self._check_seen(path)
        metadata = self.world.first(lambda: read_facts(path))
        return TrainingState(read_tensors(path, pattern, alone=False), metadata)

    def _check_seen(self, path: Path) -> None:
        unseen = [rank for rank, seen in enumerate(self.world.gather(path.is_dir())) if not seen]
        if unseen:
            raise ArtifactError(
                f"process {unseen[0]} does not see {path}: the checkpoints of a sharded run need a directory (--out) "
                "that all machines share"
            )


def delete_checkpoint(folder: Path) -> None:
    """Delete the checkpoint in a folder, of either kind."""
    (folder / FILE_NAME).unlink(missing_ok=True)
    shutil.rmtree(folder / FOLDER_NAME, ignore_errors=True)


def _newest(folder: Path) -> list[Path]:
    """The newest checkpoint in a folder, if there is one. A process may have been killed between two of them."""
    complete = [path.parent for path in (folder / FOLDER_NAME).glob(f"step-*/{FACTS}") if path.parent.suffix != ".part"]
    file = folder / FILE_NAME
    found = [*complete, *([file] if file.is_file() else [])]
    return sorted(found, key=lambda path: path.stat().st_mtime_ns)[-1:]


def _make_empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _like(tensor: Tensor, pattern: Tensor | None) -> Tensor:
    return tensor if pattern is None else divided_like(tensor, pattern)
