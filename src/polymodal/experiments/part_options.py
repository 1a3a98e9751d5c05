"""Options of a modality or task that follow from its encoder or decoder, from the size, and from the data."""

from __future__ import annotations

from polymodal.core.errors import RecipeError
from polymodal.core.options import Options, Size, SizedModel
from polymodal.core.registry import find
from polymodal.data.table.sample import ColumnSample


def with_required_options(path: str, kind: str, prepared: Options, network: Options, size: Size) -> Options:
    """The options of the modality (or task) at `path` with the values that its encoder (or decoder) requires.

    Raises:
        RecipeError: the recipe sets another value, or there is no such option.
    """
    at_size = network.at_size(size) if isinstance(network, SizedModel) else network
    component = find(kind, network.name)
    wanted = component.required_options(at_size)
    if unknown := next((option for option in wanted if option not in type(prepared).model_fields), None):
        raise RecipeError(
            path.rpartition(".")[0] + f".{kind}",
            f"its options require `{unknown}` of the text that is generated, and the task is {prepared.name}; remove "
            "them, or choose another decoder",
        )
    for option, value in wanted.items():
        if option in prepared.model_fields_set and getattr(prepared, option) != value:
            raise RecipeError(
                f"{path}.{option}",
                f"the {kind} {network.name} requires {value!r}; remove this option, or choose another {kind}",
            )
    preferred = component.preferred_options(at_size) if kind == "encoder" else {}
    unset = {option: value for option, value in preferred.items() if option not in prepared.model_fields_set}
    return prepared.model_copy(update={**unset, **wanted}) if unset or wanted else prepared


def resolve_modality(name: str, modality: Options, size: Size, samples: list[ColumnSample]) -> Options:
    """The options with values from the size preset, and then with values from the data.

    Raises:
        RecipeError: an option is invalid, or a checkpoint is not available.
    """
    at_size = modality.at_size(size) if isinstance(modality, SizedModel) else modality
    try:
        resolved: Options = find("modality", modality.name).resolve(at_size, samples)
    except RecipeError as error:
        raise error.with_prefix(f"inputs.{name}.modality") from None
    return resolved
