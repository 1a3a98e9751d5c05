"""Names of inputs: those of inferred inputs, and inputs of a recipe that name an inferred one."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from polymodal.core.errors import RecipeError, did_you_mean
from polymodal.recipe.recipe import InputSpec, Recipe

#: The name of the input of several columns of one modality; other modalities have their own name.
_GROUPS = {"number": "numbers", "category": "categories", "datetime": "dates"}


def input_name(modality: str, names: list[str], columns: Collection[str], inputs: Collection[str]) -> str:
    """The name of an inferred input: that of its only column, or that of the group of its modality.

    names: the columns of the input; columns: those of the table; inputs: names that are taken

    Example:
        >>> input_name("number", ["price"], ["price", "size"], []), input_name("number", ["a", "b"], ["a", "b"], [])
        ('price', 'numbers')
    """
    name = names[0] if len(names) == 1 else _GROUPS.get(modality, modality)
    while name in inputs or (name in columns and name != names[0]):
        name += "_"
    return name


def named_groups(recipe: Recipe, columns: Collection[str]) -> dict[str, InputSpec]:
    """The inputs of a recipe that set options of an inferred input by its name, such as `numbers`: they list no
    columns, and no column of the table has their name."""
    return {name: spec for name, spec in recipe.inputs.items() if spec.columns == [name] and name not in columns}


def refuse_unknown(unused: Collection[str], inputs: Mapping[str, InputSpec], columns: Collection[str]) -> None:
    """Refuse an input of `named_groups` that names no inferred input.

    Raises:
        RecipeError: with the nearest name of a column or an input.
    """
    for name in unused:
        hint = did_you_mean(name, list(dict.fromkeys([*columns, *inputs])))
        raise RecipeError(f"inputs.{name}.columns", f"there is no column and no inferred input {name!r}; {hint}")
