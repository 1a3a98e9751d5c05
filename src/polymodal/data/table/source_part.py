"""Addresses of a part of a file: `book.xlsx#Prices`, `shop.sqlite#products`, `data.zip#a.csv`, `a.csv#separator=;`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class TableFile:
    """A file, and the part of it that is the table: a sheet, a table or query of a database, a member of an archive, or
    the form of a CSV file.

    part: what follows `#` in the address; empty if nothing does

    Example:
        >>> TableFile.parse("shop.sqlite#SELECT * FROM products")
        TableFile(path=PosixPath('shop.sqlite'), part='SELECT * FROM products')
    """

    path: Path
    part: str = ""

    @classmethod
    def parse(cls, text: str) -> TableFile:
        """The file of a path as users give it. A file whose name has a `#` is read as a whole."""
        name, part = text, ""
        if "#" in text and not os.path.exists(text):
            name, _, part = text.partition("#")
        path = Path(name)
        return cls(path.expanduser() if name.startswith("~") else path, part)
