"""Construction of the constraint that a generation config asks for."""

from __future__ import annotations

import json
from weakref import WeakKeyDictionary

from polymodal.generation.config import GenerationConfig
from polymodal.generation.constraints.base import Constraint
from polymodal.generation.constraints.choices import ChoicesConstraint
from polymodal.generation.constraints.grammar import GrammarConstraint
from polymodal.generation.tokenizer import TextTokenizer

_last: WeakKeyDictionary[TextTokenizer, tuple[str, Constraint]] = WeakKeyDictionary()


def build_constraint(config: GenerationConfig, tokenizer: TextTokenizer) -> Constraint | None:
    """The constraint of `config`, or None; the last constraint of each tokenizer is cached.

    Raises:
        RecipeError: the regular expression or the schema is invalid, or the tokenizer cannot represent a choice.
        MissingExtraError: llguidance is not installed.
    """
    rules = {name: getattr(config, name) for name in ("choices", "regex", "json_schema")}
    if all(rule is None for rule in rules.values()):
        return None
    key = json.dumps(rules, ensure_ascii=False)
    if tokenizer not in _last or _last[tokenizer][0] != key:
        _last[tokenizer] = key, _build(config, tokenizer)
    return _last[tokenizer][1]


def _build(config: GenerationConfig, tokenizer: TextTokenizer) -> Constraint:
    if config.choices is not None:
        return ChoicesConstraint(config.choices, tokenizer)
    if config.regex is not None:
        return GrammarConstraint.from_regex(config.regex, tokenizer)
    return GrammarConstraint.from_json_schema(config.json_schema or {}, tokenizer)
