"""The settings of a trial as text."""

from __future__ import annotations

from typing import Any


def format_overrides(overrides: dict[str, Any]) -> str:
    """The settings of a trial in one line: components by name, numbers with two digits.

    Example:
        >>> format_overrides({"fusion": {"name": "late"}, "training.learning_rate": 0.00123})
        'fusion late  learning_rate 0.0012'
    """
    return "  ".join(f"{_short(path)} {_shown(value)}" for path, value in overrides.items())


def _short(path: str) -> str:
    kind, *rest = path.split(".")
    if not rest or kind not in ("inputs", "outputs", "training", "members"):
        return path
    return rest[0 if kind in ("inputs", "outputs") else -1]


def _shown(value: Any) -> str:
    if value == []:  # of `members`
        return "network"
    if isinstance(value, list):
        return ", ".join(_shown(one) for one in value)
    if isinstance(value, dict):
        rest = ", ".join(f"{key} {one}" for key, one in value.items() if key != "name")
        return f"{value.get('name', '')}({rest})" if rest else str(value.get("name", ""))
    return f"{value:.2g}" if isinstance(value, float) else str(value)
