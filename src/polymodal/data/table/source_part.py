"""Addresses of a part of a file or database: `book.xlsx#Prices`, `shop.sqlite#products`, `postgresql://host/shop#SELECT
...`."""

from __future__ import annotations

import os
import re
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


#: Schemes of the URLs of databases.
DATABASES = ("postgresql", "postgres", "mysql", "mariadb")
_DATABASE = re.compile(r"(postgresql|postgres|mysql|mariadb):/+([^#]*)(?:#(.*))?", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class DatabaseTable:
    """A table or query of a database server.

    url: with the password, which no message shows
    part: a table or a query; empty if the URL has none

    Example:
        >>> table = DatabaseTable.parse("postgresql://me:secret@host/shop#products")
        >>> table.part, table.shown
        ('products', 'postgresql://me@host/shop')
    """

    url: str
    part: str = ""

    @classmethod
    def parse(cls, text: str) -> DatabaseTable | None:
        """The table of a URL; None for other texts. A single slash after the scheme stands for both."""
        matched = _DATABASE.fullmatch(text)
        if matched is None:
            return None
        scheme = matched[1].lower()
        return cls(f"{'postgresql' if scheme == 'postgres' else scheme}://{matched[2]}", matched[3] or "")

    @property
    def shown(self) -> str:
        """The URL without its password and its options."""
        scheme, _, rest = self.url.partition("?")[0].partition("://")
        access, at, place = rest.rpartition("@")
        return f"{scheme}://{access.partition(':')[0]}{at}{place}"
