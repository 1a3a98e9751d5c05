"""YAML and JSON that users write: a key given twice is an error, and words mean what they say.

Every reader of such text uses this module. YAML is read by the rules of its version 1.2, and more strictly where a
value could be lost:

- Only `true` and `false` are booleans; `yes`, `no`, `on`, `off`, `y` and `n` are texts.
- Keys are texts, exactly as written: `{1.50: a}` has the key "1.50", `{no: a}` the key "no".
- Numbers are written as in JSON. `007`, `1_000`, `1:30`, `0x1F` and `2026-01-01` are texts.
- Of the tags only those of plain values are known (`!!str`, `!!int`, `!!float`, `!!bool`, `!!null`).
"""

from __future__ import annotations

import json
import re
from typing import Any, ClassVar

import yaml

_CORE = "tag:yaml.org,2002:"
_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"-?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(
    r"-?(?:0|[1-9][0-9]*)?\.[0-9]+(?:[eE][-+]?[0-9]+)?"
    r"|-?(?:0|[1-9][0-9]*)(?:\.[0-9]*)?[eE][-+]?[0-9]+"
    r"|-?(?:0|[1-9][0-9]*)\.|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
#: Control characters, line breaks and halves of characters: not all of them survive other quotes.
_NEEDS_ESCAPES = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff]")
_MERGE = "<<"
#: Limits of a text: its levels, and its values if each alias is written out.
MAX_DEPTH = 100
MAX_VALUES = 1_000_000
_JSON_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]]')


class TextFormatError(ValueError):
    """YAML or JSON that cannot be read. The message states the line."""


def read_yaml(text: str) -> Any:
    """The value of a YAML text, by the rules of this module.

    >>> read_yaml("{answer: no, rate: 1e-3, codes: [007, true]}")
    {'answer': 'no', 'rate': 0.001, 'codes': ['007', True]}

    Raises:
        TextFormatError: it is not YAML, or a key occurs twice in one mapping; the message states the lines.
    """
    try:
        return yaml.load(text, _Loader)  # a safe loader
    except yaml.MarkedYAMLError as error:
        problem = ", ".join(filter(None, [error.context, error.problem]))
        line = f" (line {error.problem_mark.line + 1})" if error.problem_mark and "in line" not in problem else ""
        raise TextFormatError(problem + line) from None
    except yaml.YAMLError as error:  # a character that YAML does not allow
        raise TextFormatError(" ".join(str(error).replace('in "<unicode string>", ', "").split())) from None
    except RecursionError:
        raise TextFormatError("it has too many levels") from None


def write_yaml(value: Any, *, allow_unicode: bool = True) -> str:
    """A value as YAML that `read_yaml`, and any reader of YAML 1.1, reads as the same value."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=allow_unicode, width=110)


def read_json(text: str) -> Any:
    """The value of a JSON text.

    >>> read_json('{"a": 1, "b": [2]}')
    {'a': 1, 'b': [2]}

    Raises:
        TextFormatError: it is not JSON, or a key occurs twice in one object; the message states the lines.
    """
    try:
        return _JSON.decode(text)
    except _KeyTwiceError as error:
        raise TextFormatError(_key_twice_in_json(text, str(error))) from None
    except RecursionError:
        raise TextFormatError("it has too many levels") from None
    except ValueError as error:  # not JSON, or a number of too many digits
        raise TextFormatError(str(error)) from None


class _KeyTwiceError(Exception):
    """A JSON object has a key twice; the message is the key."""


def _unique_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        raise _KeyTwiceError(next(key for key, _ in pairs if key in seen or seen.add(key)))  # type: ignore[func-returns-value]
    return found


_JSON = json.JSONDecoder(object_pairs_hook=_unique_object)


def _key_twice_in_json(text: str, key: str) -> str:
    """The message for an object of a JSON text that has the key twice, with both lines."""
    if "\n" not in text:
        return f"the key {key!r} is given twice; remove one"
    levels: list[dict[str, int] | None] = []
    for token in _JSON_TOKEN.finditer(text):
        if token[0] in "{[":
            levels.append({} if token[0] == "{" else None)
        elif token[0] in "}]":
            levels.pop()
        elif (level := levels[-1] if levels else None) is not None and text[token.end() :].lstrip()[:1] == ":":
            line = text.count("\n", 0, token.start()) + 1
            if json.loads(token[0], strict=False) == key and key in level:
                return _twice(key, level[key], line)
            level.setdefault(json.loads(token[0], strict=False), line)
    return f"the key {key!r} is given twice; remove one"


def _twice(key: str, first: int, second: int) -> str:
    where = f"twice in line {first}" if first == second else f"in line {first} and in line {second}"
    return f"the key {key!r} is given {where}; remove one"


class _Loader(yaml.SafeLoader):
    """A loader by the rules of this module."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # not a ClassVar in the stubs of yaml
    yaml_constructors: ClassVar[dict[str | None, Any]] = {}
    _depth = 0

    def get_single_node(self) -> Any:
        node = super().get_single_node()
        if node is not None and _size(node, {}) > MAX_VALUES:
            raise _problem(f"with its aliases it has more than {MAX_VALUES:,} values", node)
        return node

    def compose_node(self, parent: Any, index: Any) -> Any:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            start = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(None, None, f"more than {MAX_DEPTH} levels", start)
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def mapping(self, node: yaml.MappingNode) -> dict[str, Any]:
        """The mapping of a node: keys as written, merged mappings (`<<`) below the node's own keys."""
        found: dict[str, Any] = {}
        lines: dict[str, int] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise _problem("a key must be a text or a number", key_node)
            key = str(key_node.value)
            if key_node.tag == f"{_CORE}merge":
                merged |= self._merged(value_node)
                continue
            line = key_node.start_mark.line + 1
            if key in lines:
                raise _problem(_twice(key, lines[key], line), key_node)
            lines[key] = line
            found[key] = self.construct_object(value_node, deep=True)
        return {**merged, **found}

    def _merged(self, node: yaml.Node) -> dict[str, Any]:
        """The mapping, or the mappings (the first takes precedence), that `<<` names."""
        parts = node.value if isinstance(node, yaml.SequenceNode) else [node]
        found: dict[str, Any] = {}
        for part in parts:
            if not isinstance(part, yaml.MappingNode):
                raise _problem("<< must be followed by an alias of a mapping", part)
            found = {**self.construct_object(part, deep=True), **found}
        return found

    def boolean(self, node: yaml.ScalarNode) -> bool:
        if not _BOOL.fullmatch(node.value):
            raise _problem(f"{node.value!r} is neither true nor false", node)
        return bool(node.value.lower() == "true")

    def number(self, node: yaml.ScalarNode) -> int | float:
        kind = int if node.tag == f"{_CORE}int" else float
        try:
            return kind(node.value.lower().replace(".inf", "inf").replace(".nan", "nan"))
        except ValueError:
            raise _problem(f"{node.value[:40]!r} cannot be read as a number", node) from None


def _size(node: yaml.Node, sizes: dict[int, int]) -> int:
    """The number of values of a node, with every alias written out."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in sizes:
        sizes[id(node)] = 1  # of an alias inside of its own node, which the constructor refuses
        inner = (part for pair in node.value for part in (pair if isinstance(pair, tuple) else (pair,)))
        sizes[id(node)] = 1 + sum(_size(part, sizes) for part in inner)
    return sizes[id(node)]


def _problem(text: str, node: yaml.Node) -> yaml.YAMLError:
    return yaml.MarkedYAMLError(None, None, text, node.start_mark)


for _tag, _pattern, _first in (
    ("bool", _BOOL, list("tTfF")),
    ("int", _INT, list("-0123456789")),
    ("float", _FLOAT, list("-+.0123456789")),
    ("null", _NULL, ["~", "n", "N", ""]),
    ("merge", re.compile(_MERGE), ["<"]),
):
    _Loader.add_implicit_resolver(f"{_CORE}{_tag}", re.compile(f"(?:{_pattern.pattern})$"), _first)
_Loader.yaml_constructors = {
    f"{_CORE}null": lambda loader, node: None,
    f"{_CORE}bool": _Loader.boolean,
    f"{_CORE}int": _Loader.number,
    f"{_CORE}float": _Loader.number,
    f"{_CORE}str": _Loader.construct_scalar,
    f"{_CORE}seq": lambda loader, node: loader.construct_sequence(node, deep=True),
    f"{_CORE}map": _Loader.mapping,
    None: _Loader.construct_undefined,
}
_YAML_1_1: dict[str, Any] = yaml.SafeDumper.yaml_implicit_resolvers


class _Dumper(yaml.SafeDumper):
    """A dumper that quotes every text that is something else for YAML 1.1 or for `_Loader`."""

    yaml_implicit_resolvers: dict[str, Any] = {
        first: [*_YAML_1_1.get(first, []), *_Loader.yaml_implicit_resolvers.get(first, [])]
        for first in {**_YAML_1_1, **_Loader.yaml_implicit_resolvers}
    }

    def ignore_aliases(self, data: Any) -> bool:
        """Equal values are written out, not as anchors and aliases."""
        return True

    def text(self, data: str) -> yaml.ScalarNode:
        """A text with line breaks or control characters is written in double quotes, with escapes."""
        return self.represent_scalar(f"{_CORE}str", data, style='"' if _NEEDS_ESCAPES.search(data) else None)


_Dumper.add_representer(str, _Dumper.text)
