"""One registry: kind + name -> component class. A component is registered by standing in the folder of its kind.

A component class has a nested `Options` (pydantic) whose `name` field is the component's name in recipes:

    @register
    class Gated(VectorFusion):
        class Options(FusionOptions):
            name: Literal["gated"] = "gated"
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any, TypeVar

from polymodal.core.errors import RecipeError, nearest
from polymodal.core.options import Options

# Each kind and the package whose modules define its components; a module is imported at the first look-up of its kind.
KINDS = {
    "modality": "polymodal.modalities",
    "encoder": "polymodal.nn.encoders",
    "fusion": "polymodal.nn.fusion",
    "decoder": "polymodal.nn.decoders",
    "task": "polymodal.tasks",
    "objective": "polymodal.nn.objectives",
}

_components: dict[str, dict[str, type]] = {kind: {} for kind in KINDS}
_loaded: set[str] = set()

C = TypeVar("C", bound=type)


def register(component: C) -> C:
    """Class decorator: make `component` (which has `kind` and `Options`) known under its `Options.name`."""
    kind, name = component.kind, component.Options.model_fields["name"].default  # type: ignore[attr-defined]
    taken = _components[kind].get(name)
    if taken is not None and taken.__qualname__ != component.__qualname__:
        raise ValueError(f"{kind} {name!r} is already {taken.__module__}.{taken.__qualname__}")
    component.Options.component = component  # type: ignore[attr-defined]
    _components[kind][name] = component
    return component


def components(kind: str) -> dict[str, type[Any]]:
    """Every component of `kind` by name, in alphabetical order."""
    if kind not in KINDS:
        raise RecipeError("", f"there is no kind {kind!r}; {nearest(kind, KINDS)}")
    if kind not in _loaded:
        _loaded.add(kind)
        package = importlib.import_module(KINDS[kind])
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{package.__name__}.{module.name}")
    return dict(sorted(_components[kind].items()))


def find(kind: str, name: str, path: str = "") -> type[Any]:
    """The component class called `name`; `path` is the recipe key to name in the error.

    Raises:
        RecipeError: no component of that kind has that name; the message gives the nearest.
    """
    known = components(kind)
    if name not in known:
        raise RecipeError(path, f"there is no {kind} {name!r}; {nearest(name, known)}")
    return known[name]


def build(kind: str, options: Options | None, path: str, **context: Any) -> Any:
    """Build the component that `options` belong to: `cls(options, **context)`; a complete recipe has no gaps.

    Raises:
        RecipeError: the component refuses an option; the recipe key `path` is put before its own.
    """
    if options is None:
        raise ValueError(f"the recipe is not complete: no {path}")
    try:
        return find(kind, options.name)(options, **context)
    except RecipeError as error:
        raise error.under(path) from None
