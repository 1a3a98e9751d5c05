"""YAML and JSON that users write: duplicate keys, words, numbers, damaged texts, and values that read back equal."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from polymodal.core.yaml_json import TextFormatError, read_json, read_yaml, write_yaml

#: Texts that look like other values to YAML of some version, and texts that are hard to write.
LOOKALIKES = [
    *("yes", "no", "on", "off", "y", "n", "true", "True", "false", "null", "~", "1", "007", "1_000", "0x1F", "0o7"),
    *("1:30", "1.5", "1e5", "1E5", ".5", "5.", ".inf", "-.inf", ".nan", "2026-01-01", "<<", "=", "-", "?", ":", "#"),
    *("&", "*", "!", "|", ">", "%", "@", "`", "", " a ", "a: b", "a #b", "é\n\tb", "\x85", "\u2028", "😀", "\ud800"),
]
BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "\n".join(
    f"k{n}: &{n} [{','.join(['*' + (str(n - 1) if n else 'a')] * 10)}]" for n in range(8)
)
texts = st.one_of(st.sampled_from(LOOKALIKES), st.text(max_size=20))
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=True), texts, texts
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=8,
)


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal, in type as well."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@settings(max_examples=600, deadline=None, database=None)
@given(values)
def test_what_is_written_reads_back_equal(value: Any) -> None:
    assert same(read_yaml(write_yaml(value)), value)
    assert same(read_json(json.dumps(value)), value)


@settings(max_examples=300, deadline=None, database=None)
@given(st.dictionaries(texts, st.one_of(texts, st.booleans(), st.integers()), max_size=4))
def test_readers_of_yaml_1_1_read_the_same(value: dict[str, Any]) -> None:
    assert same(yaml.safe_load(write_yaml(value)), value)


@settings(max_examples=700, deadline=None, database=None)
@given(st.one_of(st.text(alphabet="ab:{}[],&*!<>-?'\"\n #|%@~01.e", max_size=40), st.text(max_size=20)))
def test_any_text_is_a_value_or_a_typed_error(text: str) -> None:
    for read in (read_yaml, read_json):
        try:
            read(text)
        except TextFormatError:
            continue


def test_words_and_codes_are_texts_and_keys_are_as_written() -> None:
    words = "[yes, no, on, off, y, 1:30, 2026-01-01, 007, 1_000, 0x1F]"
    assert read_yaml(words) == ["yes", "no", "on", "off", "y", "1:30", "2026-01-01", "007", "1_000", "0x1F"]
    assert list(read_yaml("{no: 1, true: 2, 1.50: 3, 2026-01-01: 4, null: 5}")) == [
        "no",
        "true",
        "1.50",
        "2026-01-01",
        "null",
    ]
    assert read_yaml("[1e-3, -2, .5, true, null, .inf]") == [0.001, -2, 0.5, True, None, float("inf")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("training: {epochs: 5}\nseed: 1\ntraining: {seed: 1}", "'training' is given in line 1 and in line 3"),
        ("training:\n  epochs: 5\n  epochs: 50", "'epochs' is given in line 2 and in line 3"),
        ("inputs: {no: text, no: number}", "'no' is given twice in line 1"),
        ("classes: {1: a, '1': b}", "'1' is given twice"),
        ("a: !!python/object:os.system x", "line 1"),
        ("a: &a [*a]", "recursive"),
        ("a: 1\n---\nb: 2", "another document"),
        ("{[a]: 1}", "a key must be a text"),
        ("[" * 5000, "levels"),
        ("9" * 5000, "cannot be read as a number"),
        (BOMB, "more than 1,000,000 values"),
    ],
)
def test_the_message_says_where(text: str, said: str) -> None:
    with pytest.raises(TextFormatError, match=said):
        read_yaml(text)


def test_merged_mappings_keep_the_own_keys() -> None:
    assert read_yaml("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 5}")["b"] == {"x": 5, "y": 2}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1,\n "b": {"a": 2},\n "a": 3}', "'a' is given in line 1 and in line 3"),
        ('[{"x": "{", "x": 2}]', "'x' is given twice; remove one"),
        ('{"a\\u0062": 1, "ab": 2}', "'ab' is given twice"),
        ("[" * 100_000, "levels"),
        ("9" * 5000, "digits"),
        ('{"a": ', "line 1"),
    ],
)
def test_json_likewise(text: str, said: str) -> None:
    with pytest.raises(TextFormatError, match=said):
        read_json(text)
