"""Modules by name, where a name may be any text, as the name of a column is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar, cast
from urllib.parse import unquote

from torch import nn

M = TypeVar("M", bound=nn.Module)


class NamedModules(nn.Module, Mapping[str, M]):
    """Submodules of one kind by name, in the order in which they are given.

    `torch.nn.ModuleDict` refuses names that hold a dot, that are empty, or that are attributes of a module ("type",
    "keys"). Here each is registered under `key_of(name)`, which is the name itself for most, and under that key it
    stands in the names of parameters: `NamedModules({"a.b": nn.Linear(1, 1)})` has `a%2Eb.weight`.
    """

    def __init__(self, modules: Mapping[str, M]) -> None:
        super().__init__()
        for name, module in modules.items():
            self.add_module(key_of(name), module)

    def __getitem__(self, name: str) -> M:
        return cast(M, self._modules[key_of(name)])  # `add_module` has put nothing else there

    def __iter__(self) -> Iterator[str]:
        return (unquote(key) if key != EMPTY else "" for key in self._modules)

    def __len__(self) -> int:
        return len(self._modules)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)


#: The key of the empty name; a "%" of a name is never left alone.
EMPTY = "%"
#: What `NamedModules` could not register a submodule under.
_TAKEN = frozenset(dir(NamedModules[nn.Module]({})))


def key_of(name: str) -> str:
    """What a module of this name is registered under; `urllib.parse.unquote` gives the name back.

    "%" and "." are percent-encoded, and so is the first letter of a name that is an attribute of every module.
    """
    if name in _TAKEN:
        return f"%{ord(name[0]):02X}{name[1:]}"
    return name.replace("%", "%25").replace(".", "%2E") or EMPTY
