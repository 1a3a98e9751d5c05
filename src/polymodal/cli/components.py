"""`polymodal list`: the components that recipes can name."""

from __future__ import annotations

from fnmatch import fnmatchcase
from itertools import groupby
from operator import itemgetter
from typing import Annotated, Any

import typer

from polymodal.cli.options import Json
from polymodal.cli.output import emit, grid


def list_components(
    kind: Annotated[
        str | None, typer.Argument(help="modality, encoder, fusion, decoder, task or objective; or a pattern.")
    ] = None,
    pattern: Annotated[str | None, typer.Argument(help="Names to show, as 'co*'; default: all.")] = None,
    as_json: Json = False,
) -> None:
    """List the components that recipes can name, and the package that each comes from."""
    from polymodal.core.errors import PolymodalError, nearest
    from polymodal.core.registry import KINDS

    if kind is not None and kind not in KINDS and pattern is None:
        kind, pattern = None, kind
    known = _rows([kind] if kind else list(KINDS))
    rows = [row for row in known if fnmatchcase(row["name"], pattern or "*")]
    if not rows:
        hint = nearest(str(pattern), [*KINDS, *(row["name"] for row in known)])
        raise PolymodalError(f"there is no component called {pattern!r}, and no such kind; {hint}")
    shown = [grid([_shown(row) for row in group]) for _, group in groupby(rows, key=itemgetter("kind"))]
    emit({"components": rows}, shown, as_json=as_json)


def _rows(kinds: list[str]) -> list[dict[str, Any]]:
    """A row for each component, and for each that another package declares and that cannot be used."""
    from polymodal.core.registry import KINDS, components, faults, package_of

    rows = []
    for kind in kinds:
        for name, component in components(kind).items():
            what = (component.__doc__ or "").strip().split("\n\n")[0].replace("\n    ", " ")
            rows.append({"kind": kind, "name": name, "package": package_of(component), "what": what, "fault": None})
    for fault in faults():
        one = fault.extension
        if one.kind in kinds or (one.kind not in KINDS and len(kinds) > 1):
            rows.append({"kind": one.kind, "name": one.name, "package": one.package, "what": "", "fault": fault.reason})
    return sorted(rows, key=lambda row: ([*kinds, row["kind"]].index(row["kind"]), row["name"]))


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    what = row["what"] if row["fault"] is None else f"cannot be used, as {row['fault']}"
    return {"kind": row["kind"], "name": row["name"], "package": row["package"], "what": what}
