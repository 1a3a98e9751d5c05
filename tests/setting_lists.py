"""Lists of settings for tests that share most of them."""

from __future__ import annotations


def replaced(settings: list[str], *others: str) -> list[str]:
    """The settings, with `others` in place of those of the same keys: no key may be set twice."""
    return list({one.partition("=")[0]: one for one in [*settings, *others]}.values())
