"""Rules for programs in the sandbox: lists of what is allowed, not of what is forbidden."""

from __future__ import annotations

import ast
import builtins
import collections
import functools
import itertools
import math
import re
import types
from collections.abc import Collection
from typing import Any

#: Maximum number of characters of a program, and of its tests.
MAX_CHARACTERS = 20_000

_ALLOWED_BUILTINS = """
abs all any bin bool chr dict divmod enumerate filter float frozenset hex int isinstance iter len list map max min next
oct ord pow print range repr reversed round set sorted str sum tuple zip
ArithmeticError AssertionError AttributeError Exception IndexError KeyError LookupError NameError OverflowError
RecursionError StopIteration TypeError ValueError ZeroDivisionError
"""
_ALLOWED_SYNTAX = """
Module Expression Expr Constant Name Load Store Del Attribute Subscript Slice Starred
BinOp UnaryOp BoolOp Compare IfExp NamedExpr operator unaryop boolop cmpop expr_context
List Tuple Set Dict ListComp SetComp DictComp GeneratorExp comprehension JoinedStr FormattedValue
Assign AugAssign AnnAssign Delete Assert Raise Pass Break Continue If For While Try ExceptHandler
FunctionDef Lambda Return Yield YieldFrom Global Nonlocal arguments arg Call keyword Import ImportFrom alias
"""
_BUILTINS = _ALLOWED_BUILTINS.split()
_SYNTAX = tuple(getattr(ast, name) for name in _ALLOWED_SYNTAX.split())
_MODULES: dict[str, dict[str, Any]] = {
    module.__name__: {name: getattr(module, name) for name in names}
    for module, names in (
        (collections, ["Counter", "defaultdict", "deque"]),
        (functools, ["reduce"]),
        (itertools, [name for name in dir(itertools) if not name.startswith("_")]),
        (math, [name for name in dir(math) if not name.startswith("_")]),
        (re, ["findall", "fullmatch", "match", "search", "split", "sub"]),
    )
}
# str.format and format_map read attributes named inside a text, where the syntax rules cannot check them.
_ATTRIBUTES = {
    name
    for owner in (str, bytes, list, dict, set, frozenset, tuple, int, float, collections.Counter, collections.deque)
    for name in dir(owner)
    if not name.startswith("_") and name not in ("format", "format_map")
} | {"args", "group", "groups", "span", *(name for names in _MODULES.values() for name in names)}


class ForbiddenCode(Exception):
    """A program violates the rules; the message gives the reason and the line."""


class _TestBuiltins(dict[str, Any]):
    """Builtins of tests. A name that is none of them is looked up in the program."""

    def __init__(self, builtins: dict[str, Any], program: dict[str, Any]) -> None:
        super().__init__(builtins)
        self.program = program

    def __missing__(self, name: str) -> Any:
        return self.program[name]


def parse(code: str, defined: Collection[str] = ()) -> ast.Module:
    """Syntax tree of a program that follows the rules.

    defined: names that have a meaning already, for tests those of their program

    Raises:
        ForbiddenCode: it does not.
        SyntaxError: it is not valid Python.
    """
    if len(code) > MAX_CHARACTERS:
        raise ForbiddenCode(f"{len(code)} characters; the maximum is {MAX_CHARACTERS}")
    try:
        tree = ast.parse(code)
    except (ValueError, RecursionError, MemoryError) as error:
        raise SyntaxError(str(error) or "too deeply nested") from error
    bound = _bound(tree).union(defined)
    for node in ast.walk(tree):
        problem = _problem(node, bound)
        if problem:
            raise ForbiddenCode(f"line {getattr(node, 'lineno', 1)}: {problem}")
    return tree


def namespace() -> dict[str, Any]:
    """New globals for a program: the allowed builtins, and an import of the allowed parts of modules."""
    allowed: dict[str, Any] = {name: getattr(builtins, name) for name in _BUILTINS}
    return {"__builtins__": allowed | {"__import__": _import}, "__name__": "program"}


def tests_namespace(tests: ast.Module, program: dict[str, Any]) -> dict[str, Any]:
    """New globals for the tests of a program that has run in the globals `program`.

    Tests read the names of the program as they are at that moment, and assign their own. A builtin is Python's, also if
    the program defines its name. One case is different: tests that mention no names but those of builtins are tests of
    a function that is called like a builtin, and read the one of the program.
    """
    globals_ = namespace()
    own = globals_["__builtins__"]
    if not own.keys().isdisjoint(program):
        used = {node.id for node in ast.walk(tests) if isinstance(node, ast.Name)}
        if not used - _bound(tests) - own.keys():
            own = {name: value for name, value in own.items() if name not in program}
    return globals_ | {"__builtins__": _TestBuiltins(own, program)}


def _import(name: str, *_: object) -> types.ModuleType:
    module = types.ModuleType(name)
    module.__dict__.update(_MODULES[name])
    return module


def _bound(tree: ast.Module) -> set[str]:
    """Names that the program assigns."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.FunctionDef):
            names.add(node.name)
    return names


def _problem(node: ast.AST, bound: set[str]) -> str:
    if not isinstance(node, _SYNTAX):
        return f"{type(node).__name__} is not allowed"
    for value in (getattr(node, name) for name in node._fields if not isinstance(node, ast.Constant)):
        for word in value if isinstance(value, list) else [value]:
            if isinstance(word, str) and "__" in word:
                return f"the name {word} is not allowed"
    match node:
        case ast.Name(id=name, ctx=ast.Load()) if hasattr(builtins, name) and name not in {*_BUILTINS, *bound}:
            return f"{name} is not allowed"
        case ast.Attribute(attr=name) if name not in _ATTRIBUTES:
            return f"the attribute {name} is not allowed"
        case ast.Attribute(attr=name, ctx=ast.Store() | ast.Del()):
            return f"the attribute {name} may not be set"
        case ast.Import(names=names) if unknown := [one.name for one in names if one.name not in _MODULES]:
            return f"import of {unknown[0]} is not allowed"
        case ast.ImportFrom(module=name, names=names):
            known = _MODULES.get(name or "", {})
            if unknown := [one.name for one in names if one.name not in known]:
                return f"import of {unknown[0]} from {name} is not allowed"
    return ""
