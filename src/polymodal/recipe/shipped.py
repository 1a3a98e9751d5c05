"""The recipes of the package, by name."""

from __future__ import annotations

import itertools
from pathlib import Path

from polymodal.core.errors import RecipeError, did_you_mean

RECIPE_FOLDER = Path(__file__).parent / "library"


def shipped_recipes() -> dict[str, str]:
    """The purpose of each shipped recipe by name: the first sentence of the comment at the top of its file."""
    return {file.stem: _purpose(file.read_text(encoding="utf-8")) for file in sorted(RECIPE_FOLDER.glob("*.yaml"))}


def _purpose(recipe: str) -> str:
    comment = itertools.takewhile(lambda line: line.startswith("#"), recipe.splitlines())
    return " ".join(line.lstrip("# ") for line in comment).split(". ", 1)[0].rstrip(".")


def recipe_file(name: Path | str) -> Path:
    """The file of a recipe: an existing path, or the name of a shipped recipe.

    Raises:
        RecipeError: neither exists; the message gives the nearest name.
    """
    path = Path(name)
    if path.is_file():
        return path
    known = shipped_recipes()
    if str(name) in known:
        return RECIPE_FOLDER / f"{name}.yaml"
    if not path.suffix and len(path.parts) == 1:
        raise RecipeError("", f"there is no recipe called {str(name)!r}; {did_you_mean(str(name), known)}")
    raise RecipeError("", f"the recipe file {path} does not exist")
