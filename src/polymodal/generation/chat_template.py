"""Conversations as the chat template of a checkpoint writes them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from polymodal.core.errors import DataError
from polymodal.generation.tokenizer import TextTokenizer

#: Stands for the content of turn N while a template is filled; no text has these signs.
_MARK = re.compile("\U0010fffd(\\d+)\U0010fffd")


class ChatTemplate:
    """The template in a checkpoint's files; where it has none, a line for each turn, `User: text`, and `Assistant:`.

    Tokens are those of the reference (`apply_chat_template` of transformers) without the begin token, which the writer
    adds. Where what somebody says spells a control token, the parts are read one by one, so that only the template's
    own control tokens count.
    """

    def __init__(self, codec: TextTokenizer) -> None:
        self.codec = codec
        self._said: dict[str, Any] = {} if codec.card is None else codec.card.files.get("tokenizer_config", {})
        source = self._said.get("chat_template")
        if isinstance(source, list):  # several by name
            source = next((one["template"] for one in source if one["name"] == "default"), source[0]["template"])
        self._template = None if source is None else _environment().from_string(source)

    def prompt(self, turns: Sequence[tuple[str, str]]) -> list[int]:
        """The tokens before the reply; `turns` are role and content.

        Raises:
            DataError: the template refuses such a conversation.
        """
        if self._template is None:
            lines = [f"{role.capitalize()}: {content}\n" for role, content in turns]
            return self.codec.encode(["".join([*lines, "Assistant:"])])[0]
        parts = _MARK.split(self._filled([(role, _mark(place)) for place, (role, _) in enumerate(turns)]))
        apart: list[int] = []
        wanted: list[int] = []
        for place, part in enumerate(parts):
            own = place % 2 == 0
            ids = self._control_read(part) if own else self.codec.encode([turns[int(part)][1]])[0]
            apart += ids
            wanted += self._control_of(ids)
        whole = self._control_read(self._filled(turns))
        found = whole if self._control_of(whole) == wanted else apart
        return found[1:] if found[:1] == [self.codec.begin] else found

    def end(self) -> int:
        """The control token that the template puts behind a reply; the end of texts where it puts none."""
        if self._template is None:
            return self.codec.end
        filled = self._filled([("user", _mark(0)), ("assistant", _mark(1))], asked=False)
        behind = self._control_read(_MARK.split(filled)[-1])
        return behind[0] if behind and behind[0] in self.codec.control else self.codec.end

    def _filled(self, turns: Sequence[tuple[str, str]], *, asked: bool = True) -> str:
        messages = [{"role": role, "content": content} for role, content in turns]
        special = {key: _content(value) for key, value in self._said.items() if key.endswith("_token")}
        assert self._template is not None
        try:
            return self._template.render(messages=messages, add_generation_prompt=asked, **special)
        except TemplateError as error:
            raise DataError(f"the checkpoint's chat template refuses this conversation: {error}") from None

    def _control_read(self, text: str) -> list[int]:
        """The tokens of a text whose control tokens count."""
        tokenizer = self.codec.tokenizer
        tokenizer.encode_special_tokens = False
        try:
            return list(tokenizer.encode(text, add_special_tokens=False).ids)
        finally:
            tokenizer.encode_special_tokens = True

    def _control_of(self, ids: Sequence[int]) -> list[int]:
        return [one for one in ids if one in self.codec.control]


def _mark(place: int) -> str:
    return f"\U0010fffd{place}\U0010fffd"


def _environment() -> ImmutableSandboxedEnvironment:
    """Where templates are filled: they come from files, so they reach nothing but what they are given."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )

    def refuse(message: str) -> None:
        raise TemplateError(message)

    environment.globals["raise_exception"] = refuse
    return environment


def _content(token: Any) -> Any:
    return token.get("content") if isinstance(token, dict) else token
