"""Work for tests of engines, which other processes import too."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from polymodal.core.errors import DataError
from polymodal.engines.shards import Shard, ShardWork


class Numbers:
    """Writes the numbers of the rows of each shard. `killed` maps shards to how often their process is killed in the
    middle of them; the shard `wrong` is an error."""

    def __init__(self, folder: str, killed: dict[str, int], wrong: int | None = None) -> None:
        self.folder, self.killed, self.wrong = Path(folder), killed, wrong

    def run(self, shard: Shard) -> None:
        if shard.number == self.wrong:
            raise DataError("a cell is wrong", row=shard.start)
        part = self.folder / f"{shard.name}.{os.getpid()}"
        part.write_text(f"{shard.start}\n")
        kill_for(self.folder, self.killed, shard)
        part.write_text("".join(f"{row}\n" for row in range(shard.start, shard.stop)))
        part.replace(self.folder / shard.name)


class KilledWork:
    """Work whose process is killed in the middle of a shard: after `function` of `owner` has written the file."""

    def __init__(self, work: ShardWork, folder: str, killed: dict[str, int], owner: Any, function: str) -> None:
        self.work, self.folder, self.killed = work, Path(folder), killed
        self.owner, self.function = owner, function

    def run(self, shard: Shard) -> None:
        whole = getattr(self.owner, self.function)

        def killed_after_writing(*arguments: object, **options: object) -> object:
            found = whole(*arguments, **options)
            kill_for(self.folder, self.killed, shard)
            return found

        setattr(self.owner, self.function, killed_after_writing)
        try:
            self.work.run(shard)
        finally:
            setattr(self.owner, self.function, whole)


def kill_for(folder: Path, killed: dict[str, int], shard: Shard) -> None:
    """Kill this process in the first attempts at a shard."""
    for attempt in range(killed.get(str(shard.number), 0)):
        note = folder / f"killed-{shard.number}-{attempt}"
        if not note.exists():
            note.touch()
            os.kill(os.getpid(), signal.SIGKILL)


def open_work(*, kind: str, folder: str, killed: dict[str, int], **arguments: object) -> ShardWork:
    if kind == "numbers":
        return Numbers(folder, killed, **arguments)  # type: ignore[arg-type]
    if kind == "preparation":
        from polymodal.applications.batch_preparation import work as preparation  # slow to import

        made: ShardWork = preparation.open_work(**arguments)  # type: ignore[arg-type]
        return KilledWork(made, folder, killed, preparation.PreparedShardWriter, "finish")
    from polymodal.applications.batch_prediction import work as prediction

    made = prediction.open_work(**arguments)  # type: ignore[arg-type]
    return KilledWork(made, folder, killed, prediction, "write_prediction_shard")
