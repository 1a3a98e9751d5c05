"""A quick start of the commands that predict: without libraries that no prediction needs."""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder
from typing import Any


def skip_pandas() -> None:
    """Keep pyarrow from importing pandas, which takes half a second, as long as nothing asks for a pandas frame.

    At its first conversion of a Python value, pyarrow looks once for pandas, to recognize its frames and series. A row
    or a file that is given to a command is neither. `to_pandas` and an `import pandas` work as before. Nothing is
    changed in a program that has imported torch already: it is no command, and may have frames.
    """
    if "torch" in sys.modules or "pandas" in sys.modules:
        return
    import pyarrow as pa

    hidden = _Hidden()
    sys.meta_path.insert(0, hidden)
    try:
        pa.scalar(None)
    finally:
        sys.meta_path.remove(hidden)


class _Hidden(MetaPathFinder):
    """Pandas is not found while this finder is the first."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError("pandas is not looked for here", name="pandas")
