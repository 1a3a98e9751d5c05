"""Packages of the extra `text`."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from polymodal.core.errors import MissingExtraError


def imported(module: str, package: str, purpose: str) -> ModuleType:
    """`module` of `package`, for a metric that is named by `purpose`.

    Raises:
        MissingExtraError: the package is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtraError(package, "text", purpose) from error
