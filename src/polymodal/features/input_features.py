"""The featurizers of an input: those that the recipe names, or the defaults of its modality."""

from __future__ import annotations

from typing import Any

from polymodal.core.errors import RecipeError
from polymodal.core.options import Options
from polymodal.core.registry import components, find
from polymodal.recipe.recipe import InputSpec


def default_features(modality: str, has_checkpoint: bool) -> list[str]:
    """The names of the default featurizers of a modality, in alphabetical order; none if no featurizer reads it.

    has_checkpoint: whether the input has a pretrained encoder whose checkpoint is frozen

    Example:
        >>> default_features("number", False)
        ['numbers']
        >>> default_features("image", True)
        ['embedding', 'statistics']
    """
    found = []
    for name, featurizer in components("featurizer").items():
        with_checkpoint = featurizer.default_with_checkpoint
        serves = with_checkpoint if has_checkpoint and with_checkpoint is not None else featurizer.default_for
        if modality in serves:
            found.append(name)
    return found


def has_frozen_checkpoint(spec: InputSpec) -> bool:
    """Whether the input has a pretrained encoder whose checkpoint is frozen."""
    return spec.encoder is not None and bool(find("encoder", spec.encoder.name).has_frozen_checkpoint(spec.encoder))


def input_features(name: str, spec: InputSpec) -> list[Options]:
    """The options of the featurizers of the input `name`, whose modality and encoder are set.

    Raises:
        RecipeError: a featurizer is named twice, does not read this modality, or needs an encoder with a frozen
            checkpoint.
    """
    assert spec.modality is not None, "the recipe is not complete"
    has_checkpoint = has_frozen_checkpoint(spec)
    if spec.features is None:
        names = default_features(spec.modality.name, has_checkpoint)
        return [find("featurizer", one).Options() for one in names]
    seen: set[str] = set()
    for position, options in enumerate(spec.features):
        path, featurizer = f"inputs.{name}.features.{position}", find("featurizer", options.name)
        if options.name in seen:
            raise RecipeError(path, f"the featurizer {options.name!r} is named twice; remove one")
        if spec.modality.name not in featurizer.modalities:
            reads = " or ".join(featurizer.modalities)
            problem = f"the featurizer {options.name!r} is for {reads}, but this input is {spec.modality.name}"
            raise RecipeError(path, problem)
        if featurizer.needs_encoder and not has_checkpoint:
            problem = f"the featurizer {options.name!r} needs a pretrained encoder with fine_tuning: freeze"
            raise RecipeError(path, f"{problem}; set inputs.{name}.encoder, or remove it")
        seen.add(options.name)
    return list(spec.features)


def required_modality_options(name: str, spec: InputSpec) -> dict[str, Any]:
    """Unset options of the modality of the input `name` that its featurizers need, with their values, so that its items
    hold what they read.

    Raises:
        RecipeError: two featurizers need different values; see also `input_features`.
    """
    wanted: dict[str, Any] = {}
    for options in input_features(name, spec):
        for key, value in find("featurizer", options.name).required_options(options).items():
            if getattr(spec.modality, key) is None and wanted.setdefault(key, value) != value:
                problem = f"the featurizers need {key}: {wanted[key]!r} and {key}: {value!r}; name one of them only"
                raise RecipeError(f"inputs.{name}.features", problem)
    return wanted
