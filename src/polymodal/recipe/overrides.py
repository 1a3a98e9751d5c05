"""`--set a.b=c`: settings on top of a recipe."""

from __future__ import annotations

import copy
from typing import Any

import yaml

from polymodal.core.errors import RecipeError


def apply_overrides(recipe: dict[str, Any], settings: list[str]) -> dict[str, Any]:
    """A copy of `recipe` with each `a.b=c` set; values are read as YAML (`3`, `true`, `[a, b]`, `gated`).

    A short form on the way is written out first: `fusion: gated` with `fusion.dropout=0.2` becomes
    `{name: gated, dropout: 0.2}`. Input names that hold dots are matched before the path is cut at dots.

    Raises:
        RecipeError: a setting has no `=`, or leads through a value that is not a mapping.
    """
    changed = copy.deepcopy(recipe)
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals or not path.strip():
            raise RecipeError("", f"--set takes KEY=VALUE, as in training.epochs=5; given: {setting!r}")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise RecipeError(path, f"the value is not YAML: {error}") from None
        _put(changed, path.strip(), value)
    return changed


def _put(recipe: dict[str, Any], path: str, value: Any) -> None:
    place: Any = recipe
    rest = path
    walked: list[str] = []
    while True:
        if isinstance(place, list):
            place, rest = _item(place, rest, walked)
        key = max((name for name in place if rest == name or rest.startswith(f"{name}.")), key=len, default=None)
        if key is None:
            # keys of training.parts are recipe paths, with dots of their own
            key = rest.rpartition(".")[0] if walked == ["training", "parts"] else rest.split(".", 1)[0]
        walked.append(key)
        if rest == key:
            place[key] = value
            return
        rest = rest[len(key) + 1 :]
        inner = place.get(key)
        if inner is None and walked == ["objectives"]:
            raise RecipeError(path, "there is no objective to set this of: name it first (--objective, or the recipe)")
        if inner is None:
            inner = {}
        elif isinstance(inner, str):
            inner = {_short_key(walked): inner}
        elif not isinstance(inner, dict | list):
            raise RecipeError(".".join(walked), f"cannot set {rest!r} inside {inner!r}")
        place[key] = inner
        place = inner


def _item(items: list[Any], path: str, walked: list[str]) -> tuple[dict[str, Any], str]:
    """The item of a list that `path` begins with (`0.weight`), written out, and the rest of the path."""
    number, _, rest = path.partition(".")
    if not number.isdigit() or int(number) >= len(items) or not rest:
        there = f"0 to {len(items) - 1}" if items else "none"
        raise RecipeError(".".join(walked), f"cannot set {path!r}: name one of its items by number ({there}) and a key")
    walked.append(number)
    if isinstance(items[int(number)], str):
        items[int(number)] = {"name": items[int(number)]}
    return items[int(number)], rest


def _short_key(path: list[str]) -> str:
    """The key that a short form stands for: an input's string is its modality, an output's its task, else a name."""
    if len(path) == 2 and path[0] in ("inputs", "outputs"):
        return "modality" if path[0] == "inputs" else "task"
    return "name"
