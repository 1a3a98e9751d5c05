"""Prompts of conversations with the chat template of a checkpoint."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from polymodal.core.errors import DataError
from polymodal.generation.tokenizer import TextTokenizer
from polymodal.pretrained.multimodal import ImageSlot, image_slot, is_multimodal

if TYPE_CHECKING:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

#: Placeholder for the content of turn N while a template is rendered; its characters do not occur in text.
_PLACEHOLDER = re.compile("\U0010fffd(\\d+)\U0010fffd")


class ChatTemplate:
    """The chat template in a checkpoint's files. Without one, each turn is a line `User: text`, followed by
    `Assistant:`.

    Token ids equal those of the reference (`apply_chat_template` of transformers) without the begin token, which the
    decoder adds. If the content of a turn contains the spelling of a control token, the segments are encoded
    separately, so that only the template's own control tokens become control tokens.

    With a multimodal language model, messages are lists of contents, as its template expects, and `num_images` images
    precede the text of the last user message. Each becomes the tokens that its processor writes for an image.

    Raises:
        DataError: the template has a syntax error.
        RecipeError: there are images, but the checkpoint is not a supported multimodal language model.
    """

    def __init__(self, tokenizer: TextTokenizer, num_images: int = 0) -> None:
        self.tokenizer, self.num_images = tokenizer, num_images
        checkpoint = tokenizer.checkpoint
        self._tokenizer_config: dict[str, Any] = (
            {} if checkpoint is None else checkpoint.files.get("tokenizer_config", {})
        )
        source = self._tokenizer_config.get("chat_template")
        self._checkpoint = "" if checkpoint is None else checkpoint.name
        self._has_contents = checkpoint is not None and is_multimodal(checkpoint)
        self._slot: ImageSlot | None = image_slot(checkpoint) if checkpoint is not None and num_images else None
        with self._errors("cannot be read"):
            if isinstance(source, list):  # several templates by name
                source = next((item["template"] for item in source if item["name"] == "default"), source[0]["template"])
            self._template = None if source is None else _environment().from_string(source)

    def prompt(self, turns: Sequence[tuple[str, str]]) -> list[int]:
        """The token ids before the reply.

        turns: (role, content) pairs

        Raises:
            DataError: the template rejects the conversation.
        """
        if self._template is None:
            lines = [f"{role.capitalize()}: {content}\n" for role, content in turns]
            return self.tokenizer.encode(["".join([*lines, "Assistant:"])])[0]
        placeholders = [(role, _placeholder(index)) for index, (role, _) in enumerate(turns)]
        separate: list[int] = []
        expected: list[int] = []
        for index, segment in enumerate(_PLACEHOLDER.split(self._render(placeholders))):
            is_template = index % 2 == 0
            ids = (
                self._encode(self._with_slots(segment))
                if is_template
                else self.tokenizer.encode([turns[int(segment)][1]])[0]
            )
            separate += ids
            expected += self._control_ids(ids)
        whole = self._encode(self._with_slots(self._render(turns)))
        prompt = whole if self._control_ids(whole) == expected else separate
        if self._slot is not None and prompt.count(self._slot.token_id) != self.num_images * self._slot.length:
            raise DataError(
                f"the chat template of the checkpoint {self._checkpoint!r} writes "
                f"{prompt.count(self._slot.token_id)} image tokens for {self.num_images} images of "
                f"{self._slot.length} tokens"
            )
        return prompt[1:] if prompt[:1] == [self.tokenizer.bos_id] else prompt

    def end_of_turn_id(self) -> int:
        """The control token that the template appends to a reply, or the end token if it appends none."""
        if self._template is None:
            return self.tokenizer.eos_id
        turns = [("user", _placeholder(0)), ("assistant", _placeholder(1))]
        rendered = self._render(turns, add_generation_prompt=False)
        suffix = self._encode(_PLACEHOLDER.split(rendered)[-1])
        return suffix[0] if suffix and suffix[0] in self.tokenizer.control_ids else self.tokenizer.eos_id

    def _render(self, turns: Sequence[tuple[str, str]], *, add_generation_prompt: bool = True) -> str:
        messages: list[dict[str, Any]] = [{"role": role, "content": content} for role, content in turns]
        if self._has_contents:
            messages = [{"role": role, "content": [{"type": "text", "text": content}]} for role, content in turns]
            if self.num_images:
                last = max(index for index, (role, _) in enumerate(turns) if role == "user")
                messages[last]["content"][:0] = [{"type": "image"}] * self.num_images
        special = {key: _content(value) for key, value in self._tokenizer_config.items() if key.endswith("_token")}
        assert self._template is not None
        with self._errors("rejects this conversation"):
            return self._template.render(messages=messages, add_generation_prompt=add_generation_prompt, **special)

    def _with_slots(self, rendered: str) -> str:
        """The rendered text with the tokens of each image in place of its placeholder."""
        if self._slot is None:
            return rendered
        family = self._slot.family
        return rendered.replace(family.placeholder, family.image_text(self._slot.length))

    @contextmanager
    def _errors(self, problem: str) -> Iterator[None]:
        """A template is a program of the checkpoint: whatever it raises is a DataError."""
        from jinja2 import TemplateError, TemplateSyntaxError  # only models with conversations need jinja2

        try:
            yield
        except MemoryError:
            raise
        except Exception as error:
            reason = str(error) if isinstance(error, TemplateError) else f"{type(error).__name__}: {error}"
            line = f", line {error.lineno}" if isinstance(error, TemplateSyntaxError) else ""
            raise DataError(
                f"the chat template of the checkpoint {self._checkpoint!r} (chat_template of its tokenizer_config) "
                f"{problem}: {reason}{line}"
            ) from error

    def _encode(self, text: str) -> list[int]:
        """The token ids of a text, including its control tokens."""
        backend = self.tokenizer.backend
        backend.encode_special_tokens = False
        try:
            return list(backend.encode(text, add_special_tokens=False).ids)
        finally:
            backend.encode_special_tokens = True

    def _control_ids(self, ids: Sequence[int]) -> list[int]:
        return [token for token in ids if token in self.tokenizer.control_ids]


def _placeholder(index: int) -> str:
    return f"\U0010fffd{index}\U0010fffd"


def _environment() -> ImmutableSandboxedEnvironment:
    """The Jinja environment for templates: a sandbox, because templates come from untrusted files."""
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    environment.globals["raise_exception"] = raise_exception
    return environment


def _content(token: Any) -> Any:
    return token.get("content") if isinstance(token, dict) else token
