"""What commands read: the tables of a run, a model, and the rows that it is asked about."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from polymodal.data.table.table import Table
    from polymodal.model.model import Model


class OpensTables(Protocol):
    """A model, an ensemble or a head, as far as it opens tables."""

    def open(self, data: Any, root: Path | str | None = None) -> Table: ...


def all_tables(data: str, more: list[str] | None) -> Any:
    """The table of a run, or all of its tables."""
    return [data, *more] if more else data


def single_or_list(given: list[str] | None) -> Any:
    """A table, or several, that may be left out."""
    return None if not given else given[0] if len(given) == 1 else given


def training_settings(settings: list[str] | None, strict: bool) -> list[str]:
    """The settings of a run, with that of `--strict`."""
    return [*(settings or []), *(["data.strict=true"] if strict else [])]


def load_single_model(folder: Path, needed: str) -> Model:
    """The model in `folder`.

    Raises:
        PolymodalError: an ensemble stands there; `needed` says why that does not do.
        ArtefactError: neither stands there.
    """
    from polymodal.core.errors import PolymodalError
    from polymodal.model.loading import load
    from polymodal.model.model import Model

    model = load(folder)
    if not isinstance(model, Model):
        raise PolymodalError(needed)
    return model


def open_rows(model: OpensTables, data: str, root: Path | None) -> Table:
    """The table `data`, or the rows that it spells out as JSON; their media paths start from the current folder."""
    return model.open(data, media_root(data, root))


def media_root(data: str, root: Path | None) -> Path | None:
    """`root`; where it is left out, the current folder for rows that stand in the command itself."""
    return root or (Path.cwd() if data.lstrip().startswith(("{", "[")) else None)
