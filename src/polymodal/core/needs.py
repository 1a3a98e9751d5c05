"""`Needs`: the condition under which an option has an effect, written beside the option."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Needs:
    """Annotation of an option that has no effect unless a condition holds.

        alpha: Annotated[float, Needs("method: ogm", lambda own, run: own.method == "ogm")] = 0.5

    condition: what the option needs, as a user would write it
    holds: whether it is so, from the options that hold the annotated one and the run (`recipe.run_context.RunContext`)
    """

    condition: str
    holds: Callable[[Any, Any], bool]


def needs_value(option: str, *values: Any) -> Needs:
    """The annotated option needs one of `values` in another option of the same section or component."""
    shown = " or ".join(str(value).lower() if isinstance(value, bool) else str(value) for value in values)
    return Needs(f"{option}: {shown}", lambda own, _: getattr(own, option) in values)


def needs_any(*options: str) -> Needs:
    """The annotated option needs a value in one of the other options of the same section or component."""
    return Needs(" or ".join(options), lambda own, _: any(getattr(own, option) for option in options))


def needs_above(option: str, limit: float) -> Needs:
    """The annotated option needs another option of the same section or component to be above `limit`."""
    return Needs(f"{option} above {limit:g}", lambda own, _: getattr(own, option) > limit)


def needs_bound(option: str, bound: str) -> Needs:
    """The annotated option `bound`, the upper bound of a default, needs `option` to be unset or within the bound."""

    def holds(own: Any, _: Any) -> bool:
        value = getattr(own, option)
        return value is None or value <= getattr(own, bound)

    return Needs(f"{option} to be unset", holds)


def needs_input(*modalities: str) -> Needs:
    """The annotated option needs an input of one of the modalities."""
    return Needs(f"an input of {' or '.join(modalities)}", lambda _, run: run.has_modality(*modalities))
