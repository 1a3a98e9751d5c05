"""Checks of the columns that a recipe names: no two uses of a column contradict each other."""

from __future__ import annotations

from collections.abc import Mapping

from polymodal.core.errors import RecipeError
from polymodal.model.run_record import ColumnRole
from polymodal.recipe.recipe import InputSpec, OutputSpec, Recipe


def check_columns(
    recipe: Recipe, outputs: Mapping[str, OutputSpec], inputs: Mapping[str, InputSpec], roles: list[ColumnRole]
) -> None:
    """Check that no ignored column is used, that no target is an input, and that no two entries are the same.

    A column may be in two inputs with different modalities, encoders or other columns, and in two outputs with
    different tasks.

    recipe: as the user wrote it; outputs, inputs: complete; roles: all uses of the columns

    Raises:
        RecipeError: a column is used in two ways that contradict each other, or twice in the same way.
    """
    uses = {role.column: role for role in roles if role.role != "ignored"}
    for column in recipe.data.ignore_columns:
        if use := uses.get(column):
            raise RecipeError(
                "data.ignore_columns", f"{column!r} is the {use.role} of the run; remove it from the list"
            )
    targets = {role.column for role in roles if role.role == "target"}
    for name, spec in inputs.items():
        if shared := [column for column in spec.columns if column in targets]:
            raise RecipeError(f"inputs.{name}.columns", f"{shared[0]!r} is a target and cannot also be an input")
    _refuse_equal_uses("inputs", {name: (spec.columns, (spec.modality, spec.encoder)) for name, spec in inputs.items()})
    _refuse_equal_uses("outputs", {name: (spec.columns, spec.task) for name, spec in outputs.items()})


def _refuse_equal_uses(section: str, uses: Mapping[str, tuple[list[str], object]]) -> None:
    """Refuse two entries of `section` with the same columns and equal options."""
    different = "modality or encoder" if section == "inputs" else "task"
    names = list(uses)
    for position, name in enumerate(names):
        for other in names[:position]:
            if uses[name] == uses[other]:
                raise RecipeError(
                    f"{section}.{name}",
                    f"it is the same as {section}.{other}; remove one of the two, or choose another {different}",
                )
