"""A module dictionary that accepts any string as a key, such as the name of a table column."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar, cast
from urllib.parse import unquote

from torch import nn

M = TypeVar("M", bound=nn.Module)


class NamedModules(nn.Module, Mapping[str, M]):
    """Submodules of one type by name, in insertion order.

    `torch.nn.ModuleDict` rejects names that contain a dot, that are empty, or that are attributes of a module ("type",
    "keys"). Here each submodule is registered under `module_key(name)`, which equals the name in most cases. This key
    occurs in parameter names.

    Example:
        >>> from torch import nn
        >>> modules = NamedModules({"a.b": nn.Linear(1, 1)})
        >>> list(modules), list(modules.state_dict())
        (['a.b'], ['a%2Eb.weight', 'a%2Eb.bias'])
    """

    def __init__(self, modules: Mapping[str, M]) -> None:
        super().__init__()
        for name, module in modules.items():
            self.add_module(module_key(name), module)

    def __getitem__(self, name: str) -> M:
        return cast(M, self._modules[module_key(name)])  # all entries come from `add_module` above

    def __iter__(self) -> Iterator[str]:
        return (unquote(key) if key != EMPTY_KEY else "" for key in self._modules)

    def __len__(self) -> int:
        return len(self._modules)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)


#: The key of the empty name; it is unique, since a "%" in a name is always encoded.
EMPTY_KEY = "%"
#: Names under which `NamedModules` cannot register a submodule.
_RESERVED = frozenset(dir(NamedModules[nn.Module]({})))


def module_key(name: str) -> str:
    """The key under which a module of this name is registered; `urllib.parse.unquote` is the inverse.

    "%" and "." are percent-encoded, and the first letter of a name that is an attribute of every module.
    """
    if name in _RESERVED:
        return f"%{ord(name[0]):02X}{name[1:]}"
    return name.replace("%", "%25").replace(".", "%2E") or EMPTY_KEY
