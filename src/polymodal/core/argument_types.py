"""`check_arguments`: a public function checks its arguments against their annotations, and names the wrong one."""

from __future__ import annotations

import functools
import inspect
import os
import reprlib
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin

import numpy as np

from polymodal.core.errors import RecipeError, did_you_mean
from polymodal.core.keyword_hints import keyword_hint

P = ParamSpec("P")
R = TypeVar("R")

#: Longest name of a file or folder, in bytes.
MAX_NAME_BYTES = 255

_NAMES = {
    type(None): "None",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    Path: "a path",
    np.ndarray: "an array",
}


def check_arguments(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator: the call of a public function fails at once if an argument does not have the type of its annotation.

    Sequences accept every sequence but a text, mappings every mapping, numbers those of numpy. `Any` and parameters
    without an annotation are not checked. A wrong name of a keyword is a `TypeError`, as for every Python function; it
    names the right one.

    Raises:
        RecipeError: an argument has a wrong type, or a path cannot exist. Its path is the name of the argument.

    Example:
        >>> @check_arguments
        ... def double(number: int) -> int:
        ...     return 2 * number
        >>> double(4)
        8
        >>> double("4")
        Traceback (most recent call last):
        ...
        polymodal.core.errors.RecipeError: number: must be a whole number, not '4' (str)
    """
    signature = inspect.signature(function)
    takes_any = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in signature.parameters.values())

    @functools.cache
    def annotations() -> dict[str, Any]:
        scope = getattr(function, "__globals__", {})
        found = {}
        for name, parameter in signature.parameters.items():
            note = parameter.annotation
            if note is not inspect.Parameter.empty and parameter.kind is not inspect.Parameter.VAR_KEYWORD:
                found[name] = eval(note, scope) if isinstance(note, str) else note
        return found

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError:
            unknown = [name for name in kwargs if name not in signature.parameters]
            if unknown and not takes_any:
                hint = keyword_hint(unknown[0], signature.parameters)
                raise TypeError(
                    f"{function.__name__}() got an unexpected keyword argument {unknown[0]!r}; {hint}"
                ) from None
            return function(*args, **kwargs)  # the message of Python names the function
        for name, kind in annotations().items():
            if name in given and not matches(given[name], kind):
                raise RecipeError(name, f"must be {describe(kind)}, not {shown(given[name])}")
            if name in given:
                _check_value(name, given[name], kind)
        return function(*args, **kwargs)

    return checked


def matches(value: Any, kind: Any) -> bool:
    """Whether `value` has the type of an annotation.

    >>> matches((1, 2), list[int]), matches("ab", list[str]), matches({"a": 1}, dict[str, int] | None)
    (True, False, True)
    """
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return True
    if origin in (Union, types.UnionType):
        return any(matches(value, one) for one in inner)
    if origin is Literal:
        return isinstance(value, str)  # which one is checked afterwards
    if kind is None or kind is type(None):
        return value is None
    if kind is bool:
        return isinstance(value, bool | np.bool_)
    if kind is int:
        return isinstance(value, Integral) and not isinstance(value, bool)
    if kind is float:
        return isinstance(value, Real) and not isinstance(value, bool)
    if kind is Path:
        return isinstance(value, os.PathLike) and isinstance(os.fspath(value), str)
    base = origin or kind
    if not isinstance(base, type):
        return True
    if issubclass(base, Mapping):
        key, item = inner or (Any, Any)
        return isinstance(value, Mapping) and _all(value, key) and _all(value.values(), item)
    if issubclass(base, Sequence) and not issubclass(base, str | bytes):
        is_sequence = isinstance(value, Sequence) and not isinstance(value, str | bytes)
        return is_sequence and _all(value, inner[0] if inner else Any)
    return isinstance(value, base)


def _all(values: Iterable[Any], kind: Any) -> bool:
    return kind is Any or all(matches(value, kind) for value in values)


def _check_value(name: str, value: Any, kind: Any) -> None:
    """Raises RecipeError if a path cannot exist, or a choice is none of a `Literal`."""
    kinds = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    if Path in kinds and isinstance(value, str | os.PathLike):
        problem = path_problem(os.fspath(value))
        if problem:
            raise RecipeError(name, problem)
    choices = [choice for one in kinds if get_origin(one) is Literal for choice in get_args(one)]
    if choices and str not in kinds and isinstance(value, str) and value not in choices:
        raise RecipeError(name, f"unknown {name} {short(value)}; {did_you_mean(value, choices)}")


def path_problem(path: str | bytes) -> str:
    """Why no file can have this path; empty if one can.

    >>> path_problem("a.csv"), path_problem("a\\0b")
    ('', "the path 'a\\\\x00b' holds a NUL character")
    """
    try:
        name = os.fsencode(path)
    except UnicodeEncodeError:
        return f"the path {short(path)} holds half a character (a lone surrogate)"
    if not name:
        return "the path is empty"
    if b"\0" in name:
        return f"the path {short(path)} holds a NUL character"
    if max(map(len, name.split(os.sep.encode()))) > MAX_NAME_BYTES or len(name) > 4095:
        return f"the path {short(path)} is too long"
    return ""


def describe(kind: Any) -> str:
    """An annotation in words.

    >>> describe(str | None), describe(list[str])
    ('a text or None', 'a list of texts')
    """
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        words = list(dict.fromkeys(describe(one) for one in sorted(inner, key=lambda one: one is type(None))))
        return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
    if origin is Literal:
        return "one of " + ", ".join(map(str, inner))
    if kind in _NAMES:
        return _NAMES[kind]
    base = origin or kind
    if isinstance(base, type) and issubclass(base, Mapping):
        return "a mapping" if not inner else f"a mapping of {_plural(inner[0])} to {_plural(inner[1])}"
    if isinstance(base, type) and issubclass(base, Sequence | AbstractSet):
        return f"a list of {_plural(inner[0])}" if inner else "a list"
    return f"a {getattr(kind, '__name__', kind)}"


def _plural(kind: Any) -> str:
    names = {str: "texts", int: "whole numbers", float: "numbers", Any: "values"}
    return names.get(kind) or describe(kind)


def short(value: Any, limit: int = 60) -> str:
    """The `repr` of a value, cut to about `limit` characters, in characters that every terminal shows.

    >>> short("a word " * 30)
    "'a word a word a word a word...a word a word a word a word '"
    """
    cutter = reprlib.Repr()
    cutter.maxstring = cutter.maxother = cutter.maxlong = limit
    try:
        text = cutter.repr(value)
    except Exception:  # noqa: BLE001  # a foreign object whose repr fails still has a type
        text = f"<{type(value).__name__}>"
    text = " ".join(text.split()).encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= 2 * limit else f"{text[: 2 * limit - 3]}..."


def shown(value: Any) -> str:
    """A value and its type, for a message."""
    return "None" if value is None else f"{short(value)} ({type(value).__name__})"
