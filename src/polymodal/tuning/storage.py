"""Where the trials of a search are recorded: a journal in its folder, or a database that several machines reach."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from polymodal.checkpoint.reading import parsing
from polymodal.core.errors import MissingExtraError, PolymodalError, RecipeError, did_you_mean

JOURNAL, STUDY_NAME = "study.journal", "search"
#: The variable that gives `--storage`; processes of a search get the URL by it, so that no list of processes shows it.
VARIABLE = "POLYMODAL_STORAGE"
#: The package that connects to each database, and the extra that installs it.
DRIVERS = {"postgresql": ("psycopg", "postgresql"), "mysql": ("pymysql", "mysql")}
#: Storages of Optuna that are not used, with the reason.
REFUSED = {
    "sqlite": "SQLite does not lock rows, so two processes can be given the same trial; without a storage, the search "
    "writes a journal in its folder, which the processes of one machine share safely",
    "redis": "Optuna loads pickled objects from Redis, so whoever can write there could run code here; use postgresql "
    "or mysql",
    "grpc": "the storage proxy of Optuna checks no password; use the database behind it: postgresql or mysql",
}


@dataclass(frozen=True)
class StudyStorage:
    """The record of the trials of one search.

    folder: the folder of the search, with the journal
    url: the URL of a database; None: the journal
    name: the name of the search in its record

    Example:
        >>> StudyStorage(Path("runs/search"), "postgresql://me:secret@host/trials").title
        'postgresql://me@host/trials'
    """

    folder: Path
    url: str | None = None
    name: str = STUDY_NAME

    @property
    def title(self) -> str:
        """The URL without password and options, or the path of the journal."""
        return str(self.folder / JOURNAL) if self.url is None else public_url(self.url)

    def open(self) -> Any:
        """Optuna's storage.

        Raises:
            RecipeError: the URL is not one of a database that can be used.
            MissingExtraError: its driver is not installed.
            PolymodalError: the database cannot be reached.
            ArtifactError: the journal is damaged.
        """
        optuna = require_optuna()
        if self.url is None:
            journal, path = optuna.storages.journal, str(self.folder / JOURNAL)
            backend = journal.JournalFileBackend(path, lock_obj=journal.JournalFileOpenLock(path))
            with self.parsing():
                return optuna.storages.JournalStorage(backend)
        with self.errors():
            return optuna.storages.RDBStorage(_driver_url(self.url), engine_kwargs={"pool_pre_ping": True})

    def parsing(self) -> AbstractContextManager[None]:
        """Raise ArtifactError for a journal that cannot be read, and PolymodalError for errors of a database."""
        return parsing(self.folder / JOURNAL) if self.url is None else self.errors()

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Raise PolymodalError with the name of the database in place of its errors. Nothing for a journal."""
        if self.url is None:
            yield
            return
        optuna = require_optuna()
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (optuna.exceptions.StorageInternalError, SQLAlchemyError) as error:
            cause = getattr(error.__cause__, "orig", None) or getattr(error, "orig", None) or error
            problem = str(cause).strip().splitlines()[0]
            raise PolymodalError(f"the storage {self.title} cannot be used: {problem}") from error


def new_study_name(url: str | None) -> str:
    """A name for a new search: a folder holds one search, and a database holds many."""
    return STUDY_NAME if url is None else f"polymodal-{secrets.token_hex(8)}"


def check_storage(url: str | None) -> None:
    """Check that a URL is one of a database that can be used, and connect to it.

    Raises:
        RecipeError, MissingExtraError, PolymodalError: as in `StudyStorage.open`.
    """
    if url is not None:
        StudyStorage(Path(), url).open().engine.dispose()


def public_url(url: str) -> str:
    """A URL without its password and its options.

    >>> public_url("mysql://me:secret@host:3307/trials?ssl_ca=file")
    'mysql://me@host:3307/trials'
    """
    one = _parsed(url)
    return str(type(one).create(one.drivername, one.username, None, one.host, one.port, one.database))


def require_optuna() -> Any:
    """Import Optuna, with logging of errors only.

    Raises:
        MissingExtraError: Optuna is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise MissingExtraError("optuna", "tune", "the recipe search") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def _parsed(url: str) -> Any:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url)
    except (ArgumentError, ValueError):
        raise RecipeError("storage", "must be a URL such as postgresql://user@host/database") from None


def _driver_url(url: str) -> str:
    """The URL with the name of its driver.

    Raises:
        RecipeError: another kind of storage.
        MissingExtraError: the driver is not installed.
    """
    parsed = _parsed(url)
    kind, _, driver = parsed.drivername.partition("+")
    if kind.replace("rediss", "redis") in REFUSED:
        raise RecipeError("storage", f"{kind} is not used: {REFUSED[kind.replace('rediss', 'redis')]}")
    if kind not in DRIVERS:
        raise RecipeError("storage", f"there is no storage {kind!r}; {did_you_mean(kind, DRIVERS)}")
    package, extra = DRIVERS[kind]
    if find_spec(driver or package) is None:
        raise MissingExtraError(driver or package, extra, f"a storage {kind}://")
    return str(parsed.set(drivername=f"{kind}+{driver or package}").render_as_string(hide_password=False))
