"""Search by vectors: build an index on the disk, search it exactly or approximately, filter, add and delete."""

from typing import TYPE_CHECKING, Any

from polymodal.applications.search.exact import SearchResults
from polymodal.applications.search.index import Index
from polymodal.applications.search.manifest import HNSWOptions

if TYPE_CHECKING:
    from polymodal.applications.search.embedding_source import load_source_model
    from polymodal.applications.search.query import embed_query
    from polymodal.applications.search.table import IndexOptions, add_table, index_table

__all__ = ["GraphOptions", "Hits", "Index", "IndexOptions", "add_table", "embed_query", "index_table", "model_of"]

# What needs models is imported when it is first used: an index of vectors works without.
_LATER = {
    "IndexOptions": "table",
    "add_table": "table",
    "embed_query": "query",
    "index_table": "table",
    "model_of": "space",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"polymodal.applications.search has no {name!r}")
    import importlib

    return getattr(importlib.import_module(f"polymodal.applications.search.{_LATER[name]}"), name)
