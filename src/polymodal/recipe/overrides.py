"""Settings that replace recipe keys, as in `--set a.b=c`."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from polymodal.core.errors import RecipeError
from polymodal.core.yaml_json import TextFormatError, read_yaml


def apply_overrides(recipe: dict[str, Any], settings: Sequence[str] | Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `recipe` with settings: `a.b=c` texts with YAML values (`3`, `true`, `[a, b]`, `gated`), or a mapping.

    Short forms are expanded: `fusion: gated` with `fusion.dropout=0.2` becomes `{name: gated, dropout: 0.2}`. Input
    names with dots are matched before the path is split at dots. Settings of single inputs in a recipe without `inputs`
    leave the other columns inferred (`data.infer_other_columns`).

    >>> apply_overrides({"fusion": "gated"}, ["fusion.dropout=0.2"])
    {'fusion': {'name': 'gated', 'dropout': 0.2}}
    >>> apply_overrides({}, {"training.epochs": 5})
    {'training': {'epochs': 5}}

    Raises:
        RecipeError: a text has no `=`, a key is set twice, a setting undoes an earlier one, or the path goes through a
            value that is not a mapping.
    """
    changed, unique = copy.deepcopy(recipe), _unique(settings)
    for path, value in unique.items():
        _put(changed, path, copy.deepcopy(value))
    if any(path.startswith("inputs.") for path in unique) and not recipe.get("inputs") and "inputs" not in unique:
        data = changed.setdefault("data", {})
        if isinstance(data, dict):
            data.setdefault("infer_other_columns", True)
    return changed


def _unique(settings: Sequence[str] | Mapping[str, Any]) -> dict[str, Any]:
    """The settings as a mapping of paths to values, none of which overwrites another."""
    if isinstance(settings, str):
        raise RecipeError("", f"settings must be a list of texts or a mapping; write [{settings!r}]")
    found: dict[str, Any] = {}
    for path, value in settings.items() if isinstance(settings, Mapping) else map(_parse, settings):
        if not isinstance(path, str) or not path:
            raise RecipeError("", f"a setting has a recipe key such as 'training.epochs', not {path!r}")
        if path in found and (type(found[path]) is not type(value) or found[path] != value):
            raise RecipeError(path, f"it is set twice, to {found[path]!r} and to {value!r}; remove one")
        undone = next((earlier for earlier in found if earlier.startswith(f"{path}.")), None)
        if undone is not None:
            raise RecipeError(path, f"this setting undoes that of {undone} before it; give it first, or remove one")
        found[path] = value
    return found


def _parse(setting: str) -> tuple[str, Any]:
    """Path and value of `a.b=c`."""
    path, equals, text = setting.partition("=") if isinstance(setting, str) else ("", "", "")
    if not equals or not path.strip():
        raise RecipeError("", f"a setting must be KEY=VALUE, such as 'training.epochs=5', not {setting!r}")
    try:
        return path.strip(), read_yaml(text)
    except TextFormatError as error:
        raise RecipeError(path.strip(), f"the value is not YAML: {error}") from None


def _put(recipe: dict[str, Any], path: str, value: Any) -> None:
    node: Any = recipe
    rest = path
    walked: list[str] = []
    while True:
        if isinstance(node, list):
            node, rest = _item(node, rest, walked)
        key = max((name for name in node if rest == name or rest.startswith(f"{name}.")), key=len, default=None)
        if key is None:
            # keys of training.param_groups are recipe paths, which have dots themselves
            key = rest.rpartition(".")[0] if walked == ["training", "param_groups"] else rest.split(".", 1)[0]
        walked.append(key)
        if rest == key:
            node[key] = value
            return
        rest = rest[len(key) + 1 :]
        inner = node.get(key)
        if inner is None and walked == ["objectives"]:
            raise RecipeError(path, "the recipe has no objectives; add the objective before setting its options")
        if inner is None:
            inner = {}
        elif isinstance(inner, str):
            inner = {_short_key(walked): inner}
        elif not isinstance(inner, dict | list):
            raise RecipeError(".".join(walked), f"cannot set {rest!r} inside {inner!r}")
        node[key] = inner
        node = inner


def _item(items: list[Any], path: str, walked: list[str]) -> tuple[dict[str, Any], str]:
    """The list item at the start of `path` (`0.weight`) as a mapping, and the rest of the path."""
    number, _, rest = path.partition(".")
    if not number.isdigit() or int(number) >= len(items) or not rest:
        numbers = f"0 to {len(items) - 1}" if items else "there are none"
        problem = f"cannot set {path!r}: give the number of an item ({numbers}) and a key, such as 0.weight"
        raise RecipeError(".".join(walked), problem)
    walked.append(number)
    if isinstance(items[int(number)], str):
        items[int(number)] = {"name": items[int(number)]}
    return items[int(number)], rest


def _short_key(path: list[str]) -> str:
    """The key of a short form: `modality` for an input, `task` for an output, else `name`."""
    if len(path) == 2 and path[0] in ("inputs", "outputs"):
        return "modality" if path[0] == "inputs" else "task"
    return "name"
