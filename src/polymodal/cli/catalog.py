"""The commands `recipes`, `schema` and `cache`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import RenderableType

from polymodal.cli.options import Json
from polymodal.cli.output import print_note, print_result, rows_table
from polymodal.core.terminal import labeled_lines


def recipes(as_json: Json = False) -> None:
    """List the recipes of the package, for `fit --recipe NAME`."""
    from polymodal.recipe.shipped import shipped_recipes

    rows = [{"name": name, "purpose": purpose} for name, purpose in shipped_recipes().items()]
    print_result({"recipes": rows}, [labeled_lines((row["name"], row["purpose"]) for row in rows)], as_json=as_json)


def schema(as_json: Json = False) -> None:
    """Print the JSON schema of recipes."""
    from polymodal.recipe.recipe import Recipe

    print_result(Recipe.model_json_schema(), [], as_json=True)


def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Delete all decoded media that no process uses.")] = False,
    keep: Annotated[
        float | None,
        typer.Option(min=0, metavar="GIB", help="Delete the least recently used media until this size is reached."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show or clear the cache of decoded media, which all runs share."""
    from polymodal.core.paths import media_cache_folder
    from polymodal.data.store.eviction import CACHE_VARIABLE, cache_budget, evict, usage

    folder, budget = media_cache_folder(), cache_budget()
    if clear or keep is not None:
        evict(folder, 0 if clear else int((keep or 0.0) * 2**30))
    kinds = usage(folder)
    size = sum(kind.size for kind in kinds.values())
    value = {"folder": str(folder), "budget": budget, "size": size}
    value["kinds"] = {name: vars(kind) for name, kind in kinds.items()}
    shown: list[RenderableType] = [
        labeled_lines([("size", f"{_gib(size)} of at most {_gib(budget)} ({CACHE_VARIABLE})"), ("folder", str(folder))])
    ]
    if kinds:
        shown.append(rows_table([{"kind": name, "items": k.items, "size": _gib(k.size)} for name, k in kinds.items()]))
    print_result(value, shown, as_json=as_json)
    if clear and size and not as_json:
        print_note(f"{_gib(size)} were not deleted: a process uses them, or the system has no file locks")


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB" if size >= 2**27 else f"{size / 2**20:.1f} MiB"
