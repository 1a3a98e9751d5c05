"""Vector search: build an index on disk, search it exactly or approximately, filter, add and delete rows."""

from typing import TYPE_CHECKING, Any

from polymodal.applications.search.exact import SearchResults
from polymodal.applications.search.index import Index
from polymodal.applications.search.manifest import HNSWOptions

if TYPE_CHECKING:
    from polymodal.applications.search.embedding_source import load_source_model
    from polymodal.applications.search.query import embed_query
    from polymodal.applications.search.table import IndexOptions, add_table, index_table

__all__ = [
    "HNSWOptions",
    "Index",
    "IndexOptions",
    "SearchResults",
    "add_table",
    "embed_query",
    "index_table",
    "load_source_model",
]

# Functions that need models are imported on first use: an index of vectors works without torch models.
_LAZY = {
    "IndexOptions": "table",
    "add_table": "table",
    "embed_query": "query",
    "index_table": "table",
    "load_source_model": "embedding_source",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"polymodal.applications.search has no {name!r}")
    import importlib

    return getattr(importlib.import_module(f"polymodal.applications.search.{_LAZY[name]}"), name)
