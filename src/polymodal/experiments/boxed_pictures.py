"""Inputs of tasks with boxes: their pictures are whole, and no augmentation moves them."""

from __future__ import annotations

from polymodal.core.errors import RecipeError
from polymodal.core.registry import find
from polymodal.recipe.recipe import InputSpec, OutputSpec

#: Options of images under which a box stays at the same fraction of the width and height of its picture.
WHOLE = {"resize_mode": "stretch", "translate": 0.0, "horizontal_flip": False}


def with_whole_pictures(
    outputs: dict[str, OutputSpec], inputs: dict[str, InputSpec], given: dict[str, InputSpec]
) -> tuple[dict[str, OutputSpec], dict[str, InputSpec]]:
    """Outputs of boxes with the column of their picture, and inputs whose pictures are whole and do not move.

    given: the inputs of the recipe before completion

    Raises:
        RecipeError: the picture is ambiguous or no input, or the recipe sets an option of the picture that moves boxes.
    """
    outputs, inputs = dict(outputs), dict(inputs)
    pictures = {
        spec.columns[0]: name
        for name, spec in inputs.items()
        if spec.modality is not None and spec.modality.name == "image" and spec.columns
    }
    for output, spec in outputs.items():
        if spec.task is None or not find("task", spec.task.name).needs_positions:
            continue
        column = getattr(spec.task, "image", None)
        path = f"outputs.{output}.task.image"
        if column is not None and column not in pictures:
            raise RecipeError(path, f"{column!r} is not an image input; name one of {sorted(pictures)}")
        if column is None and len(pictures) > 1:
            raise RecipeError(
                path, f"several inputs are images; name the column that has the boxes: {sorted(pictures)}"
            )
        column = column or next(iter(pictures), None)
        if column is None:
            continue
        outputs[output] = spec.model_copy(update={"task": spec.task.model_copy(update={"image": column})})
        name = pictures[column]
        inputs[name] = _whole(name, inputs[name], given.get(name), output)
    return outputs, inputs


def _whole(name: str, spec: InputSpec, given: InputSpec | None, output: str) -> InputSpec:
    modality = spec.modality
    assert modality is not None
    asked = given.modality.model_fields_set if given is not None and given.modality is not None else set()
    for option, value in WHOLE.items():
        if option in asked and getattr(modality, option) != value:
            raise RecipeError(
                f"inputs.{name}.modality.{option}",
                f"it moves the boxes of {output!r}; remove it or set it to {str(value).lower()}",
            )
    return spec.model_copy(update={"modality": modality.model_copy(update=WHOLE)})
