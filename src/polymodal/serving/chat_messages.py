"""Messages of a chat as the row of a model that generates texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from polymodal.core.options import StrictModel
from polymodal.serving.content_parts import Content, media_cells, read_content, text_cell
from polymodal.serving.errors import RequestError
from polymodal.serving.rows import Row
from polymodal.serving.served_model import ServedModel
from polymodal.tasks.conversation import Conversation
from polymodal.tasks.text_generation import TextGenerationTask


class ChatMessageBody(StrictModel):
    """A message of a request. `developer` is another name of `system`."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Any
    name: str | None = None


def chat_row(messages: Sequence[ChatMessageBody], served: ServedModel, task: TextGenerationTask) -> Row:
    """The row of a chat. The last message is by the user; its media go to the inputs of their modality.

    - A conversation with an `instruction` of one column: the last text is its cell, earlier messages are the history.
    - A conversation of a `history` alone: all messages are the history.
    - A `prompt` of one column: the text is its cell.
    - Otherwise, the text is the cell of the only text input.

    Raises:
        RequestError: the model has no place for a message or a part. Nothing is left out.
    """
    if not messages or messages[-1].role != "user":
        raise RequestError("the last message must be by the user", param="messages")
    contents = [read_content(one.content, f"messages.{number}.content") for number, one in enumerate(messages)]
    if any(one.media for one in contents[:-1]):
        raise RequestError("media are read in the last message only", code="unsupported_content", param="messages")
    last = contents[-1]
    row = media_cells(last.media, served)
    turns = [
        {"role": "system" if one.role == "developer" else one.role, "content": content.text}
        for one, content in zip(messages, contents, strict=True)
    ]
    prompt = task.prompt
    if isinstance(prompt, Conversation):
        return row | _conversation(prompt, turns, last, served)
    if len(turns) > 1:
        raise RequestError(
            f"the model {served.name!r} answers single messages, without earlier or system messages", param="messages"
        )
    if prompt is not None and prompt.columns:
        return row | {_only(prompt.columns, "prompt"): last.text}
    return row | text_cell(last.text, served)


def _conversation(conversation: Conversation, turns: list[dict[str, str]], last: Content, served: ServedModel) -> Row:
    row: Row = {}
    before = turns
    if conversation.instruction is not None:
        before = turns[:-1]
        columns = conversation.instruction.columns
        row |= {_only(columns, "instruction"): last.text} if columns else text_cell(last.text, served)
    system = conversation.system
    if system is not None and system.columns:
        told = [one["content"] for one in before if one["role"] == "system"]
        row[_only(system.columns, "system message")] = "\n".join(told)
        before = [one for one in before if one["role"] != "system"]
    elif system is not None and any(one["role"] == "system" for one in before):
        raise RequestError(f"the model {served.name!r} has a system message of its own", param="messages")
    if conversation.history is not None:
        row[conversation.history] = before
    elif before:
        raise RequestError(f"the model {served.name!r} reads no earlier messages: send one", param="messages")
    return row


def _only(columns: Sequence[str], what: str) -> str:
    if len(columns) != 1:
        raise RequestError(
            f"the {what} of the model reads the columns {', '.join(columns)}: give a row to /v1/predict",
            code="unsupported",
            param="model",
        )
    return columns[0]
