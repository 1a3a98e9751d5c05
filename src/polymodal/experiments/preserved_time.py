"""Inputs of tasks with a timeline: their times are those of the file."""

from __future__ import annotations

from polymodal.core.errors import RecipeError
from polymodal.core.registry import find
from polymodal.recipe.recipe import InputSpec


def with_time_preserved(name: str, spec: InputSpec, given: InputSpec | None, output: str) -> InputSpec:
    """The input without options that shift or lose the times of the events of `output`.

    Raises:
        RecipeError: the recipe sets such an option.
    """
    modality = spec.modality
    assert modality is not None
    asked = given.modality.model_fields_set if given is not None and given.modality is not None else set()
    preserving = find("modality", modality.name).time_preserving_options
    for option, value in preserving.items():
        if option in asked and getattr(modality, option) != value:
            raise RecipeError(
                f"inputs.{name}.modality.{option}",
                f"it shifts or loses the times of the events of {output!r}; remove it or set it to "
                f"{'null' if value is None else str(value).lower()}",
            )
    return spec.model_copy(update={"modality": modality.model_copy(update=preserving)}) if preserving else spec
