"""The registry of components: kind + name -> class.

A component is registered by the module of its name in the folder of its kind, or by an entry point of another installed
package (see `extensions`). A component class has a nested `Options` (pydantic) whose `name` field is its name in
recipes:

    @register
    class Gated(VectorFusion):
        class Options(FusionOptions):
            name: Literal["gated"] = "gated"
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from polymodal._version import __version__
from polymodal.core.errors import RecipeError, did_you_mean
from polymodal.core.extensions import BrokenExtension, Extension, extensions
from polymodal.core.options import Options

# Each kind and the package of its components. `find` imports the module of one name, `components` all modules.
KINDS = {
    "modality": "polymodal.modalities",
    "encoder": "polymodal.nn.encoders",
    "fusion": "polymodal.nn.fusion",
    "decoder": "polymodal.nn.decoders",
    "task": "polymodal.tasks",
    "objective": "polymodal.nn.objectives",
    "featurizer": "polymodal.features",
    "estimator": "polymodal.estimators",
}

_components: dict[str, dict[str, type]] = {kind: {} for kind in KINDS}
_broken: dict[str, dict[str, BrokenExtension]] = {kind: {} for kind in KINDS}
_own_loaded: set[str] = set()
_loaded: set[str] = set()

C = TypeVar("C", bound=type)


def register(component: C) -> C:
    """Class decorator: register `component`, which has `kind` and `Options`, under its `Options.name`.

    Raises:
        ValueError: another class of that kind has the name; the message gives both, with their packages.
    """
    kind, name = component.kind, component.Options.model_fields["name"].default  # type: ignore[attr-defined]
    if not _is_own(component):
        _load_own(kind)  # our names take precedence in any order of imports
    existing = _components[kind].get(name)
    if existing is not None and _full_name(existing) != _full_name(component):
        both = " and ".join(f"{_full_name(one)} of {package_of(one)}" for one in (existing, component))
        raise ValueError(f"{kind} {name!r} is the name of {both}: rename or remove one of them")
    component.Options.component = component  # type: ignore[attr-defined]
    _components[kind][name] = component
    return component


def components(kind: str) -> dict[str, type[Any]]:
    """All components of `kind` by name, in alphabetical order.

    Components of other packages that cannot be loaded are left out; `find` and `broken_extensions` give the reason.

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
    """The component class called `name`; `path` is the recipe key for the error message.

    Raises:
        RecipeError: no component of that kind has that name (the message gives the nearest), or the package of the
            component cannot be used.
    """
    if not _is_extended(kind, name):
        _load_one(kind, name)
        if name in _components.get(kind, {}):
            return _components[kind][name]
    known = components(kind)
    if wrong := unusable_reason(kind, name, known):
        raise RecipeError(path, wrong)
    return known[name]


def unusable_reason(kind: str, name: str, choices: Iterable[str]) -> str:
    """The reason why `name` is none of the usable components `choices`; empty if it is one."""
    components(kind)
    if name in _broken[kind]:
        return f"{kind} {name!r} cannot be used: {_broken[kind][name]}"
    if name in choices:
        return ""
    hint = did_you_mean(name, choices)
    return f"there is no {kind} {name!r}; {hint} (or install the package that provides it)"


def broken_extensions() -> list[BrokenExtension]:
    """The components of other packages that cannot be used, of all kinds and of unknown kinds."""
    for kind in KINDS:
        components(kind)
    lost = [
        BrokenExtension(one, f"there is no kind {one.kind!r}; {did_you_mean(one.kind, KINDS)}")
        for one in extensions()
        if one.kind not in KINDS
    ]
    return [broken for kind in KINDS for broken in _broken[kind].values()] + lost


def package_of(component: type) -> str:
    """The package of a component with its version, such as "polymodal 0.1.0"; its module if no package declares it."""
    if _is_own(component):
        return f"polymodal {__version__}"
    top = component.__module__.partition(".")[0]
    packages = [one.package for one in extensions() if one.entry_point.module.partition(".")[0] == top]
    return packages[0] if packages else component.__module__


def build(kind: str, options: Options | None, path: str, **context: Any) -> Any:
    """Build the component of `options`: `cls(options, **context)`.

    Raises:
        RecipeError: the component rejects an option; the message begins with the recipe key `path`.
        ValueError: `options` is None, so the recipe is not complete.
    """
    if options is None:
        raise ValueError(f"the recipe is not complete: {path} is not set")
    try:
        return find(kind, options.name)(options, **context)
    except RecipeError as error:
        raise error.with_prefix(path) from None


def _is_extended(kind: str, name: str) -> bool:
    """Whether another package declares a component of this name."""
    return any((one.kind, one.name) == (kind, name) for one in extensions())


def _load_one(kind: str, name: str) -> None:
    """Import our module of this name, if there is one, and nothing else: all modules together take a second."""
    if name.isidentifier() and kind in KINDS and kind not in _own_loaded:
        package = importlib.import_module(KINDS[kind])
        if any((Path(folder) / f"{name}.py").is_file() for folder in package.__path__):
            importlib.import_module(f"{package.__name__}.{name}")


def _load_own(kind: str) -> None:
    if kind in _own_loaded:
        return
    _own_loaded.add(kind)
    package = importlib.import_module(KINDS[kind])
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")


def _admit(extension: Extension) -> None:
    """Import the class of an entry point; an error is stored until someone looks up the component."""
    kind, name = extension.kind, extension.name
    try:
        component = extension.entry_point.load()
    except Exception as error:  # noqa: BLE001  # code of other packages may raise anything; `find` reports it
        _broken[kind][name] = BrokenExtension(extension, f"it cannot be loaded: {type(error).__name__}: {error}")
        return
    if _components[kind].get(name) is not component:
        _broken[kind][name] = BrokenExtension(
            extension, f"it does not refer to a class registered with @register as {kind} {name!r}"
        )


def _is_own(component: type) -> bool:
    return component.__module__.startswith("polymodal.")


def _full_name(component: type) -> str:
    return f"{component.__module__}.{component.__qualname__}"
