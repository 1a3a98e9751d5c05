"""The training log: JSON lines, and optionally TensorBoard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from polymodal.checkpoint.reading import parsing
from polymodal.core.errors import MissingExtraError
from polymodal.core.writing import write_errors


class Log:
    """Appends one JSON object per event to `log.jsonl` in `folder`; writes nothing if `folder` is None.

    keep: the step of the checkpoint of a resumed run; lines of later steps are deleted because those steps run again

    Raises:
        OutputError: the file cannot be written.
    """

    def __init__(self, folder: Path | None, *, tensorboard: bool, keep: int | None = None) -> None:
        self._file = None
        if folder:
            path = folder / "log.jsonl"
            kept = _until(path, keep) if keep is not None and path.is_file() else []
            with write_errors(path):
                self._file = path.open("w", encoding="utf-8")
                self._file.writelines(kept)
        self._board: Any = None
        if tensorboard and folder:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                raise MissingExtraError("tensorboard", "tensorboard", "training.tensorboard") from None
            self._board = SummaryWriter(str(folder / "tensorboard"))

    def write(self, event: str, **values: Any) -> None:
        """One event (`step`, `epoch`, `notice`) with its values; nested mappings become `a.b` in TensorBoard."""
        if self._file:
            with write_errors(Path(self._file.name)):
                self._file.write(json.dumps({"event": event, **values}, ensure_ascii=False) + "\n")
                self._file.flush()
        if self._board and "step" in values:
            for name, value in _flat(values):
                if name != "step" and isinstance(value, int | float):
                    self._board.add_scalar(f"{event}/{name}", value, values["step"])

    def close(self) -> None:
        if self._file:
            with write_errors(Path(self._file.name)):
                self._file.close()
        if self._board:
            self._board.close()


def _until(path: Path, step: int) -> list[str]:
    """The lines of a log up to `step`; a last line that a kill cut short goes too."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if not line.endswith("\n"):
            break
        with parsing(path):
            if json.loads(line).get("step", 0) > step:
                break
        lines.append(line)
    return lines


def _flat(values: dict[str, Any], before: str = "") -> list[tuple[str, Any]]:
    flat: list[tuple[str, Any]] = []
    for name, value in values.items():
        flat += _flat(value, f"{before}{name}.") if isinstance(value, dict) else [(before + name, value)]
    return flat
