"""Conversations: system message, history and instruction before a generated text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from polymodal.core.errors import DataError, RecipeError, did_you_mean
from polymodal.core.yaml_json import TextFormatError, read_json
from polymodal.data.table.block import RowBlock
from polymodal.generation.chat_template import ChatTemplate
from polymodal.generation.tokenizer import TextTokenizer
from polymodal.modalities.text import parse_text
from polymodal.tasks.prompt import Overflow, PromptTemplate
from polymodal.tasks.text_targets import object_array

ROLES = ("system", "user", "assistant")
Role = Literal["system", "user", "assistant"]


class ChatMessage(NamedTuple):
    """A message of a conversation."""

    role: str
    content: str


def read_history(cell: Any, *, last: Role) -> list[ChatMessage]:
    """Messages of a cell: a list of `{role, content}`, or of texts with alternating roles user and assistant; or either
    as JSON text. None and blank cells have no messages.

    last: role of the last message in a list of plain texts

    Raises:
        ValueError: with the problem.
    """
    if isinstance(cell, str):
        if not cell.strip():
            return []
        try:
            cell = read_json(cell)
        except TextFormatError as error:
            raise ValueError(f"a history must be a list of messages, or such a list as JSON text ({error})") from None
    if cell is None:
        return []
    if not isinstance(cell, list | tuple | np.ndarray):
        raise ValueError(f"a history must be a list of messages, not {type(cell).__name__}")
    messages = [_read_message(message) for message in cell]
    without_role = [message for message in messages if not message.role]
    if without_role and len(without_role) < len(messages):
        raise ValueError("some messages of the history have a role and some do not")
    if without_role:
        order = ("user", "assistant") if last == "assistant" else ("assistant", "user")
        return [
            ChatMessage(order[(index - len(messages)) % 2], message.content) for index, message in enumerate(messages)
        ]
    return messages


def _read_message(message: Any) -> ChatMessage:
    if isinstance(message, Mapping):
        if "role" not in message or "content" not in message:
            raise ValueError(f"a message needs role and content, not {', '.join(map(str, message)) or 'nothing'}")
        role, content = message["role"], parse_text(message["content"])
        if role not in ROLES:
            raise ValueError(f"unknown role {role!r}; {did_you_mean(str(role), ROLES)}")
    else:
        role, content = "", parse_text(message)
    if content is None:
        raise ValueError("the content of a message is not a text")
    return ChatMessage(role, content)


class Conversation:
    """A conversation before a generated text: optional system message, history, and last user message.

    It is rendered by the chat template of a checkpoint, if there is one. With a tokenizer trained here, each role in
    brackets is one control token, which no text can contain:

        [system] text [user] text [assistant] text [end] [user] text [assistant]

    num_images: number of images before the text of the last user message
    columns: columns that are read
    """

    def __init__(
        self, system: str | None, history: str | None, instruction: str | None, *, num_images: int = 0
    ) -> None:
        if history is None and instruction is None:
            raise RecipeError("system", "a system message needs an instruction or a history")
        self.system = None if system is None else PromptTemplate(system, "system")
        self.instruction = None if instruction is None else PromptTemplate(instruction, "instruction")
        self.history, self.num_images = history, num_images
        named = [*(self.system.columns if self.system else []), *([history] if history else [])]
        named += self.instruction.columns if self.instruction else []
        self.columns = list(dict.fromkeys(named))

    def tokenizer_texts(self, block: RowBlock) -> set[str]:
        """Texts of a block on which a tokenizer is trained."""
        return {
            message.content
            for messages in self.messages(block, report=False)
            for message in messages or ()
            if message.content
        }

    def messages(self, block: RowBlock, *, report: bool = True) -> list[list[ChatMessage] | None]:
        """Messages before each generated text of a block; None, with a cell error if `report`, if unreadable."""
        count = len(block)
        systems = self.system.texts(block) if self.system else [""] * count
        instructions = self.instruction.texts(block) if self.instruction else [""] * count
        histories = block.cells(self.history) if self.history else [None] * count
        last: Role = "assistant" if self.instruction else "user"
        results: list[list[ChatMessage] | None] = []
        for position, (system, cell, text) in enumerate(zip(systems, histories, instructions, strict=True)):
            problem = ""
            column = self.history or ""
            messages: list[ChatMessage] = []
            for template, one in ((self.system, system), (self.instruction, text)):
                if template is not None and one is None:
                    problem, column = (
                        "the conversation needs a text in this column",
                        template.first_invalid_column(block, position),
                    )
            if not problem:
                try:
                    messages = read_history(cell, last=last)
                except ValueError as error:
                    problem = str(error)
            if not problem and self.instruction is None and (not messages or messages[-1].role != "user"):
                problem = "the history does not end with a user message, and there is no instruction"
            if problem and report:
                block.add_error(position, column, problem)
            before = [ChatMessage("system", system)] if system else []
            after = [ChatMessage("user", text or "")] if self.instruction else []
            results.append(None if problem else [*before, *messages, *after])
        return results

    def prepare(self, block: RowBlock, tokenizer: TextTokenizer, max_length: int, overflow: Overflow) -> np.ndarray:
        """Token ids of the conversation of each row of a block, `[rows]` int32 arrays. None, with a cell error, if it
        cannot be read or is longer than `max_length`. `truncate` removes the oldest messages of a long history."""
        render = _Renderer(tokenizer, self.num_images)
        results: list[np.ndarray | None] = []
        for position, messages in enumerate(self.messages(block)):
            column = self.history or self.columns[0] if self.columns else ""
            if messages is None:
                results.append(None)
                continue
            try:
                ids = render(messages)
                while (
                    len(ids) > max_length and overflow == "truncate" and (shorter := _drop_oldest(messages)) is not None
                ):
                    messages, ids = shorter, render(shorter)
            except DataError as error:
                block.add_error(position, column, str(error))
                results.append(None)
                continue
            if len(ids) > max_length:
                block.add_error(
                    position, column, f"the conversation has {len(ids)} tokens; the maximum is {max_length}"
                )
            results.append(np.asarray(ids, np.int32) if len(ids) <= max_length else None)
        return object_array(results)


def _drop_oldest(messages: Sequence[ChatMessage]) -> list[ChatMessage] | None:
    """Messages without the oldest exchange; None if only the last user message is left. System messages are kept."""
    kept = [message for message in messages if message.role == "system"]
    rest = [message for message in messages if message.role != "system"]
    if len(rest) < 2:
        return None
    rest = rest[1:]
    while len(rest) > 1 and rest[0].role != "user":
        rest = rest[1:]
    return [*kept, *rest]


class _Renderer:
    """Render conversations as token ids. Each distinct text is tokenized once."""

    def __init__(self, tokenizer: TextTokenizer, num_images: int) -> None:
        self.tokenizer = tokenizer
        self.template = None if tokenizer.checkpoint is None else ChatTemplate(tokenizer, num_images)
        self._cache: dict[str, list[int]] = {}

    def __call__(self, messages: Sequence[ChatMessage]) -> list[int]:
        """Token ids of a conversation.

        Raises:
            DataError: the chat template of the checkpoint rejects the conversation.
        """
        tokenizer = self.tokenizer
        if self.template is not None:
            return self.template.prompt(messages)
        results: list[int] = []
        for message in messages:
            results += [tokenizer.role_id(message.role), *self._text(message.content)]
            if message.role == "assistant":
                results.append(tokenizer.eos_id)
        return [*results, tokenizer.role_id("assistant")]

    def _text(self, text: str) -> list[int]:
        if text not in self._cache:
            self._cache[text] = self.tokenizer.encode([text])[0]
        return self._cache[text]
