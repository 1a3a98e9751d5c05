"""What commands print: one JSON object on standard output with `--json`, else text for people."""

from __future__ import annotations

import json
import math
import sys
from typing import Any

from rich.console import Console, RenderableType
from rich.text import Text


def emit(value: dict[str, Any], shown: list[RenderableType], *, as_json: bool) -> None:
    """Print `value` as one JSON object, or `shown` for people."""
    if as_json:
        sys.stdout.write(json.dumps(finite(value), ensure_ascii=False) + "\n")
        return
    console = Console()
    for one in shown:
        console.print(one)


def fail(error: Exception, *, as_json: bool) -> None:
    """Print an error: as a JSON object on standard output, or as a short text on standard error."""
    if as_json:
        sys.stdout.write(json.dumps({"error": str(error), "kind": type(error).__name__}, ensure_ascii=False) + "\n")
        return
    Console(stderr=True).print(Text.assemble(("error  ", "bold red"), str(error)), soft_wrap=True)


def finite(value: Any) -> Any:
    """The value with NaN and infinities as null, which is all that JSON knows."""
    if isinstance(value, dict):
        return {str(key): finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
