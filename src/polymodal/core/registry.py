"""One registry: kind + name -> component class. A component is registered by standing in the folder of its kind, or by
an entry point of another installed package (see `extensions`).

A component class has a nested `Options` (pydantic) whose `name` field is the component's name in recipes:

    @register
    class Gated(VectorFusion):
        class Options(FusionOptions):
            name: Literal["gated"] = "gated"
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable
from typing import Any, TypeVar

from polymodal._version import __version__
from polymodal.core.errors import RecipeError, did_you_mean
from polymodal.core.extensions import Extension, BrokenExtension, extensions
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
_faults: dict[str, dict[str, BrokenExtension]] = {kind: {} for kind in KINDS}
_own_loaded: set[str] = set()
_loaded: set[str] = set()

C = TypeVar("C", bound=type)


def register(component: C) -> C:
    """Class decorator: make `component` (which has `kind` and `Options`) known under its `Options.name`.

    Raises:
        ValueError: another class of that kind has the name; both are named, with their packages.
    """
    kind, name = component.kind, component.Options.model_fields["name"].default  # type: ignore[attr-defined]
    if not _is_own(component):
        _load_own(kind)  # so that a name of ours is taken, whichever is imported first
    taken = _components[kind].get(name)
    if taken is not None and _place(taken) != _place(component):
        both = " and ".join(f"{_place(one)} of {package_of(one)}" for one in (taken, component))
        raise ValueError(f"{kind} {name!r} is the name of {both}: one of them has to be renamed, or removed")
    component.Options.component = component  # type: ignore[attr-defined]
    _components[kind][name] = component
    return component


def components(kind: str) -> dict[str, type[Any]]:
    """Every component of `kind` by name, in alphabetical order. Those of other packages that cannot be loaded are left
    out; `find` and `faults` say why.

    Raises:
        RecipeError: there is no such kind; the message gives the nearest.
    """
    if kind not in KINDS:
        raise RecipeError("", f"there is no kind {kind!r}; {did_you_mean(kind, KINDS)}")
    _load_own(kind)
    if kind not in _loaded:
        _loaded.add(kind)
        for extension in extensions():
            if extension.kind == kind:
                _admit(extension)
    return dict(sorted(_components[kind].items()))


def find(kind: str, name: str, path: str = "") -> type[Any]:
    """The component class called `name`; `path` is the recipe key to name in the error.

    Raises:
        RecipeError: no component of that kind has that name (the message gives the nearest), or the package that
            brings it cannot be used.
    """
    known = components(kind)
    if wrong := unusable_reason(kind, name, known):
        raise RecipeError(path, wrong)
    return known[name]


def unusable_reason(kind: str, name: str, choices: Iterable[str]) -> str:
    """Why `name` cannot stand where the components `choices` can; blank if it can."""
    components(kind)
    if name in _faults[kind]:
        return f"{kind} {name!r} cannot be used: {_faults[kind][name]}"
    if name in choices:
        return ""
    hint = did_you_mean(name, choices)
    return f"there is no {kind} {name!r}; {hint} (if it comes with another package, install that)"


def broken_extensions() -> list[BrokenExtension]:
    """The components that other packages declare and that cannot be used, of every kind and of none."""
    for kind in KINDS:
        components(kind)
    lost = [
        BrokenExtension(one, f"there is no kind {one.kind!r}; {did_you_mean(one.kind, KINDS)}")
        for one in extensions()
        if one.kind not in KINDS
    ]
    return [fault for kind in KINDS for fault in _faults[kind].values()] + lost


def package_of(component: type) -> str:
    """The package that a component comes from and its version, as in "polymodal 0.1.0"; for one that no installed
    package declares, its module."""
    if _is_own(component):
        return f"polymodal {__version__}"
    top = component.__module__.partition(".")[0]
    packages = [one.package for one in extensions() if one.entry_point.module.partition(".")[0] == top]
    return packages[0] if packages else component.__module__


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
        raise error.with_prefix(path) from None


def _load_own(kind: str) -> None:
    if kind in _own_loaded:
        return
    _own_loaded.add(kind)
    package = importlib.import_module(KINDS[kind])
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")


def _admit(extension: Extension) -> None:
    """Import what an entry point names; what is wrong with it is kept until it is asked for."""
    kind, name = extension.kind, extension.name
    try:
        component = extension.entry_point.load()
    except Exception as error:  # noqa: BLE001  # the code of others may raise anything; `find` and `faults` tell it
        _faults[kind][name] = BrokenExtension(extension, f"it cannot be loaded: {type(error).__name__}: {error}")
        return
    if _components[kind].get(name) is not component:
        _faults[kind][name] = BrokenExtension(
            extension, f"what it names is no class that @register has made {kind} {name!r}"
        )


def _is_own(component: type) -> bool:
    return component.__module__.startswith("polymodal.")


def _place(component: type) -> str:
    return f"{component.__module__}.{component.__qualname__}"
