"""The command `list`: the components that recipes can name."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from itertools import groupby
from operator import itemgetter
from typing import Annotated, Any

import typer
from rich.console import RenderableType

from polymodal.cli.options import Json
from polymodal.cli.output import print_result
from polymodal.core.terminal import labeled_lines, plain_text

#: A citation in parentheses: it holds a year.
_PAPER = re.compile(r"\s*\([^()]*\b(?:19|20)\d\d\b[^()]*\)")


def list_components(
    kind: Annotated[
        str | None,
        typer.Argument(help="modality, encoder, fusion, decoder, task or objective; or a pattern for names."),
    ] = None,
    pattern: Annotated[str | None, typer.Argument(help="Pattern for names, such as 'co*'. Default: all.")] = None,
    as_json: Json = False,
) -> None:
    """List the components that recipes can name: modalities, encoders, fusions, decoders, tasks, objectives."""
    from polymodal.core.errors import PolymodalError, did_you_mean
    from polymodal.core.registry import KINDS

    if kind is not None and kind not in KINDS and pattern is None:
        kind, pattern = None, kind
    known = _rows([kind] if kind else list(KINDS))
    rows = [row for row in known if fnmatchcase(row["name"], pattern or "*")]
    if not rows:
        hint = did_you_mean(str(pattern), [*KINDS, *(row["name"] for row in known)])
        raise PolymodalError(f"there is no component and no kind of components called {pattern!r}; {hint}")
    shown: list[RenderableType] = []
    for name, group in groupby(rows, key=itemgetter("kind")):
        shown += ["", plain_text(name, "bold")] if shown else [plain_text(name, "bold")]
        shown.append(labeled_lines((f"  {row['name']}", _description(row)) for row in group))
    print_result({"components": rows}, shown, as_json=as_json)


def _rows(kinds: list[str]) -> list[dict[str, Any]]:
    """A row for each component, also for those of other packages that cannot be used."""
    from polymodal.core.registry import KINDS, broken_extensions, components, package_of

    rows = []
    for kind in kinds:
        for name, component in components(kind).items():
            row = {"kind": kind, "name": name, "package": package_of(component)}
            rows.append({**row, "summary": summary_sentence(component.__doc__ or ""), "problem": None})
    for broken in broken_extensions():
        extension = broken.extension
        if extension.kind in kinds or (extension.kind not in KINDS and len(kinds) > 1):
            row = {"kind": extension.kind, "name": extension.name, "package": extension.package}
            rows.append({**row, "summary": "", "problem": broken.reason})
    return sorted(rows, key=lambda row: ([*kinds, row["kind"]].index(row["kind"]), row["name"]))


def summary_sentence(docstring: str) -> str:
    """The first sentence of a docstring, without the papers that it cites.

    >>> summary_sentence("Gated fusion (Arevalo et al., 2017). Further facts.")
    'Gated fusion.'
    """
    paragraph = " ".join(docstring.strip().split("\n\n")[0].split())
    without_papers = _PAPER.sub("", paragraph)
    return re.split(r"(?<=[^.]\w)\.(?: |$)", without_papers)[0].rstrip(".:") + "."


def _description(row: dict[str, Any]) -> str:
    """The summary or the problem, and the package if it is not polymodal."""
    text = row["summary"] if row["problem"] is None else f"cannot be used: {row['problem']}"
    return text if row["package"].startswith("polymodal ") else f"{text} (package {row['package']})"
