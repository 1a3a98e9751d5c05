"""Short texts that took long to compute, remembered in the cache by what they were computed from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from polymodal.core.paths import cache_writes
from polymodal.core.writing import atomic_path


def remembered_text(cache: Path, key: str, compute: Callable[[], str]) -> str:
    """The text of `key`, computed at the first call.

    key: 32 hex digits that stand for all that the text depends on

    Raises:
        PolymodalError: the cache cannot be written to.

    Example:
        >>> remembered_text(Path("cache"), "0" * 32, lambda: "a fingerprint")
        'a fingerprint'
        >>> remembered_text(Path("cache"), "0" * 32, lambda: "not computed again")
        'a fingerprint'
    """
    file = cache / f"{key}.txt"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    text = compute()
    with cache_writes(cache), atomic_path(file) as part:
        part.write_text(text, encoding="utf-8")
    return text
