"""The recipes that come with the package, by name."""

from __future__ import annotations

import itertools
from pathlib import Path

from polymodal.core.errors import RecipeError, did_you_mean

RECIPE_FOLDER = Path(__file__).parent / "library"


def shipped_recipes() -> dict[str, str]:
    """What each shipped recipe is for, by its name: the first sentence of the comment that its file begins with."""
    return {file.stem: _purpose(file.read_text(encoding="utf-8")) for file in sorted(RECIPE_FOLDER.glob("*.yaml"))}


def _purpose(recipe: str) -> str:
    comment = itertools.takewhile(lambda line: line.startswith("#"), recipe.splitlines())
    return " ".join(line.lstrip("# ") for line in comment).split(". ", 1)[0].rstrip(".")


def recipe_file(name: Path | str) -> Path:
    """The file of a recipe: a path, or the name of a shipped recipe where there is no such file.

    Raises:
        RecipeError: there is neither; the message gives the nearest name.
    """
    path = Path(name)
    if path.is_file():
        return path
    known = shipped_recipes()
    if str(name) in known:
        return RECIPE_FOLDER / f"{name}.yaml"
    named = not path.suffix and len(path.parts) == 1
    hint = f" and no shipped recipe of that name; {did_you_mean(str(name), known)}" if named else ""
    raise RecipeError("", f"there is no recipe file {path}{hint}")
