"""The chat template of a checkpoint, so that what users say never becomes a control token."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from polymodal.errors import RecipeError
from polymodal.pretrained.card import Card

#: What may stand beside the text of a message.
ROLE, CONTENT = "role", "content"


def chat_prompt(
    template: Card | str, messages: Sequence[Mapping[str, str]], *, answer: bool = True, **names: Any
) -> list[tuple[str, bool]]:
    """A conversation as the template writes it: pieces of text, and whether each is the template's own.

    Templates mix control tokens with what users said, and a text that spells `<end_of_turn>` would end its turn. So the
    template is rendered with a random word in place of each content, and cut there: pieces that are the template's own
    (True) may give control tokens, contents (False) must be read as plain text. A template that trims, escapes or
    rewrites contents does so to the random word, and the content itself is put in as it is, without blanks at its ends.

    template: the card of a checkpoint (its `chat_template`), or the template itself (Jinja, as transformers has it)
    messages: each with `role` (`system`, `user`, `assistant`) and `content`
    answer: end with what comes before an answer (`add_generation_prompt`)
    names: more that the template may ask for, as `bos_token`; a card's own tokens are known

    Raises:
        RecipeError: the checkpoint has no template, or the template refuses these messages or loses what they say.
    """
    where = template.model if isinstance(template, Card) else "the chat template"
    source, known = _template(template) if isinstance(template, Card) else (template, {})
    for message in messages:
        if not isinstance(message.get(ROLE), str) or not isinstance(message.get(CONTENT), str):
            raise RecipeError("", f"a message has a {ROLE} and a {CONTENT}, both texts; found {dict(message)!r}")
    words = [f"q{secrets.token_hex(8)}q" for _ in messages]
    marked = [{**message, CONTENT: word} for message, word in zip(messages, words, strict=True)]
    rendered = _rendered(source, where, messages=marked, add_generation_prompt=answer, **{**known, **names})
    contents = {word: message[CONTENT].strip() for word, message in zip(words, messages, strict=True)}
    lost = next((message for word, message in zip(words, messages, strict=True) if word not in rendered), None)
    if lost is not None:
        raise RecipeError("", f"{where} leaves out what a message of the role {lost[ROLE]!r} says")
    return _cut(rendered, contents)


def _cut(rendered: str, contents: Mapping[str, str]) -> list[tuple[str, bool]]:
    pieces = re.split(f"({'|'.join(contents)})", rendered) if contents else [rendered]
    told = [(contents.get(piece, piece), piece not in contents) for piece in pieces]
    return [(text, own) for text, own in told if text]


def _template(card: Card) -> tuple[str, dict[str, str]]:
    """The template of a card and the names of its special tokens."""
    said = card.files.get("tokenizer_config", {})
    found = said.get("chat_template")
    if isinstance(found, list):  # several, by name
        found = next((one["template"] for one in found if one.get("name") == "default"), None)
    if not found:
        raise RecipeError(
            "", f"the checkpoint {card.model!r} has no chat template: it was not trained on conversations"
        )
    tokens = {name: one.get(CONTENT) if isinstance(one, dict) else one for name, one in said.items()}
    return str(found), {name: one for name, one in tokens.items() if name.endswith("_token") and isinstance(one, str)}


def _rendered(source: str, where: str, **names: Any) -> str:
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(problem: str) -> None:
        raise TemplateError(problem)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals["raise_exception"] = refuse
    try:
        return environment.from_string(source).render(**names)
    except (TemplateError, TypeError, ValueError) as error:
        raise RecipeError("", f"{where} refuses these messages: {error}") from error
