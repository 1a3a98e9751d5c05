"""The training log: JSON lines, and TensorBoard when asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from polymodal.errors import MissingExtraError


class Log:
    """Appends one JSON object per event to `log.jsonl` in `folder`; nothing is written when `folder` is None."""

    def __init__(self, folder: Path | None, *, tensorboard: bool, resume: bool) -> None:
        self._file = (folder / "log.jsonl").open("a" if resume else "w", encoding="utf-8") if folder else None
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
            self._file.write(json.dumps({"event": event, **values}, ensure_ascii=False) + "\n")
            self._file.flush()
        if self._board and "step" in values:
            for name, value in _flat(values):
                if name != "step" and isinstance(value, int | float):
                    self._board.add_scalar(f"{event}/{name}", value, values["step"])

    def close(self) -> None:
        if self._file:
            self._file.close()
        if self._board:
            self._board.close()


def _flat(values: dict[str, Any], before: str = "") -> list[tuple[str, Any]]:
    flat: list[tuple[str, Any]] = []
    for name, value in values.items():
        flat += _flat(value, f"{before}{name}.") if isinstance(value, dict) else [(before + name, value)]
    return flat
