"""The hash of a label, which names a class or group that is not in the training rows."""

from __future__ import annotations

import xxhash

from polymodal.tasks.labels import Label, label_key


def label_hash(label: Label) -> int:
    """Hash of a label, equal in every table and run: 64 bits, never 0. The probability of a collision among a million
    labels is 3e-8.

    Example:
        >>> label_hash(1) == label_hash(1.0), label_hash(1) == label_hash("1")
        (True, False)
    """
    boolean, value = label_key(label)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    name = f"{'bool' if boolean else type(value).__name__} {value}"
    return (xxhash.xxh3_64_intdigest(name.encode()) | 1) - 2**63
