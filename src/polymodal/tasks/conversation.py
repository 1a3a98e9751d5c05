"""What an answer follows on in a conversation: who said what before."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from polymodal.core.errors import DataError, RecipeError, did_you_mean
from polymodal.data.table.block import RowBlock
from polymodal.generation.chat_template import ChatTemplate
from polymodal.generation.tokenizer import TextTokenizer
from polymodal.modalities.text import as_text
from polymodal.tasks.text_targets import object_array
from polymodal.tasks.prompt import Overflow, PromptTemplate

ROLES = ("system", "user", "assistant")
Role = Literal["system", "user", "assistant"]


class ChatMessage(NamedTuple):
    """What one of them says."""

    role: str
    content: str


def read_history(cell: Any, *, last: Role) -> list[ChatMessage]:
    """The turns of a cell: a list of `{role, content}`, or of texts, of which user and assistant say one in turn; or
    either as JSON text. None and blank cells have no turns.

    last: who says the last of a list of plain texts

    Raises:
        ValueError: with what is wrong.
    """
    if isinstance(cell, str):
        if not cell.strip():
            return []
        try:
            cell = json.loads(cell)
        except ValueError:
            raise ValueError("a history is a list of turns or such a list as JSON text") from None
    if cell is None:
        return []
    if not isinstance(cell, list | tuple | np.ndarray):
        raise ValueError(f"a history is a list of turns, not {type(cell).__name__}")
    turns = [_turn(one) for one in cell]
    silent = [turn for turn in turns if not turn.role]
    if silent and len(silent) < len(turns):
        raise ValueError("some turns of the history say who speaks and some do not")
    if silent:
        order = ("user", "assistant") if last == "assistant" else ("assistant", "user")
        return [ChatMessage(order[(place - len(turns)) % 2], turn.content) for place, turn in enumerate(turns)]
    return turns


def _turn(one: Any) -> ChatMessage:
    if isinstance(one, Mapping):
        if "role" not in one or "content" not in one:
            raise ValueError(f"a turn of the history has role and content, not {', '.join(map(str, one)) or 'nothing'}")
        role, content = one["role"], as_text(one["content"])
        if role not in ROLES:
            raise ValueError(f"nobody in a conversation is {role!r}; {did_you_mean(str(role), ROLES)}")
    else:
        role, content = "", as_text(one)
    if content is None:
        raise ValueError("a turn of the history is no text")
    return ChatMessage(role, content)


class Conversation:
    """What was said before an answer: perhaps a system text, a history, and what the user asks last.

    A checkpoint's own chat template puts it in a row, where it has one. Tokens that were learned here do it so, each
    sign in brackets one control token that no text can spell:

        [system] text [user] text [assistant] text [end] [user] text [assistant]

    columns: those that are read
    """

    def __init__(self, system: str | None, history: str | None, instruction: str | None) -> None:
        if history is None and instruction is None:
            raise RecipeError("system", "it goes before an instruction or a history; name one of these")
        self.system = None if system is None else PromptTemplate(system, "system")
        self.instruction = None if instruction is None else PromptTemplate(instruction, "instruction")
        self.history = history
        named = [*(self.system.columns if self.system else []), *([history] if history else [])]
        named += self.instruction.columns if self.instruction else []
        self.columns = list(dict.fromkeys(named))

    def learned(self, block: RowBlock) -> set[str]:
        """The texts of a block from which a tokenizer is learned."""
        return {turn.content for turns in self.turns(block, tell=False) for turn in turns or () if turn.content}

    def turns(self, block: RowBlock, *, tell: bool = True) -> list[list[ChatMessage] | None]:
        """What was said before each answer of a block; None, and (`tell`) a fault, where it cannot be read."""
        count = len(block)
        systems = self.system.texts(block) if self.system else [""] * count
        asked = self.instruction.texts(block) if self.instruction else [""] * count
        histories = block.cells(self.history) if self.history else [None] * count
        last: Role = "assistant" if self.instruction else "user"
        found: list[list[ChatMessage] | None] = []
        for position, (system, cell, text) in enumerate(zip(systems, histories, asked, strict=True)):
            problem = ""
            column = self.history or ""
            turns: list[ChatMessage] = []
            for template, one in ((self.system, system), (self.instruction, text)):
                if template is not None and one is None:
                    problem, column = "the conversation needs a text here", template.unusable(block, position)
            if not problem:
                try:
                    turns = read_history(cell, last=last)
                except ValueError as error:
                    problem = str(error)
            if not problem and self.instruction is None and (not turns or turns[-1].role != "user"):
                problem = "the history does not end with what the user says, and there is no instruction"
            if problem and tell:
                block.add_error(position, column, problem)
            before = [ChatMessage("system", system)] if system else []
            after = [ChatMessage("user", text or "")] if self.instruction else []
            found.append(None if problem else [*before, *turns, *after])
        return found

    def prepare(self, block: RowBlock, codec: TextTokenizer, most: int, overflow: Overflow) -> np.ndarray:
        """Tokens of the conversation before each answer of a block, `[rows]` int32 arrays; None, and a fault, where it
        cannot be read or is longer than `most` tokens. To `cut` leaves out the oldest turns of a long history."""
        render = _Renderer(codec)
        found: list[np.ndarray | None] = []
        for position, turns in enumerate(self.turns(block)):
            column = self.history or self.columns[0] if self.columns else ""
            if turns is None:
                found.append(None)
                continue
            try:
                ids = render(turns)
                while len(ids) > most and overflow == "cut" and (shorter := _without_oldest(turns)) is not None:
                    turns, ids = shorter, render(shorter)
            except DataError as error:
                block.add_error(position, column, str(error))
                found.append(None)
                continue
            if len(ids) > most:
                block.add_error(position, column, f"its conversation has {len(ids)} tokens; at most {most} are read")
            found.append(np.asarray(ids, np.int32) if len(ids) <= most else None)
        return object_array(found)


def _without_oldest(turns: Sequence[ChatMessage]) -> list[ChatMessage] | None:
    """The turns without the oldest exchange; None where only what is asked last is left. System texts stay."""
    kept = [turn for turn in turns if turn.role == "system"]
    rest = [turn for turn in turns if turn.role != "system"]
    if len(rest) < 2:
        return None
    rest = rest[1:]
    while len(rest) > 1 and rest[0].role != "user":
        rest = rest[1:]
    return [*kept, *rest]


class _Renderer:
    """Conversations as tokens; each different text is encoded once."""

    def __init__(self, codec: TextTokenizer) -> None:
        self.codec = codec
        self.template = None if codec.card is None else ChatTemplate(codec)
        self._known: dict[str, list[int]] = {}

    def __call__(self, turns: Sequence[ChatMessage]) -> list[int]:
        """
        Raises:
            DataError: the checkpoint's template refuses such a conversation.
        """
        codec = self.codec
        if self.template is not None:
            return self.template.prompt(turns)
        found: list[int] = []
        for turn in turns:
            found += [codec.role_id(turn.role), *self._text(turn.content)]
            if turn.role == "assistant":
                found.append(codec.eos_id)
        return [*found, codec.role_id("assistant")]

    def _text(self, text: str) -> list[int]:
        if text not in self._known:
            self._known[text] = self.codec.encode([text])[0]
        return self._known[text]
