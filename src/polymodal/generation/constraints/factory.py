"""The constraint that the options of writing ask for."""

from __future__ import annotations

import json
from weakref import WeakKeyDictionary

from polymodal.generation.config import GenerationConfig
from polymodal.generation.constraints.base import Constraint
from polymodal.generation.constraints.choices import ChoicesConstraint
from polymodal.generation.constraints.grammar import GrammarConstraint
from polymodal.generation.tokenizer import TextTokenizer

_last: WeakKeyDictionary[TextTokenizer, tuple[str, Constraint]] = WeakKeyDictionary()


def build_constraint(writing: GenerationConfig, codec: TextTokenizer) -> Constraint | None:
    """The constraint that `writing` asks for; the last one of each codec is kept.

    Raises:
        RecipeError: the regular expression or the schema is not valid, or a choice cannot be written.
        MissingExtraError: llguidance is not installed.
    """
    given = {name: getattr(writing, name) for name in ("choices", "regex", "json_schema")}
    if all(one is None for one in given.values()):
        return None
    key = json.dumps(given, ensure_ascii=False)
    if codec not in _last or _last[codec][0] != key:
        _last[codec] = key, _made(writing, codec)
    return _last[codec][1]


def _made(writing: GenerationConfig, codec: TextTokenizer) -> Constraint:
    if writing.choices is not None:
        return ChoicesConstraint(writing.choices, codec)
    if writing.regex is not None:
        return GrammarConstraint.of_regex(writing.regex, codec)
    return GrammarConstraint.of_schema(writing.json_schema or {}, codec)
