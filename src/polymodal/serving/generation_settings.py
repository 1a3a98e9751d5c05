"""Settings of generation in the words of OpenAI clients, as options of `GenerationConfig`."""

from __future__ import annotations

import json
from typing import Any, Literal, Protocol

from pydantic import Field

from polymodal.core.options import StrictModel
from polymodal.generation.config import GenerationConfig
from polymodal.serving.errors import RequestError

#: Longest JSON schema, in characters, and the number of strings that end a text.
MAX_SCHEMA, MAX_STOP = 65_536, 4


class JsonSchema(StrictModel):
    """A JSON schema that the text fulfills."""

    name: str = ""
    description: str | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None


class ResponseFormat(StrictModel):
    """The form of the text: any text, or a JSON document of a schema."""

    type: Literal["text", "json_schema"]
    json_schema: JsonSchema | None = None


class GenerationRequest(Protocol):
    """The keys of a request that change the generation."""

    max_tokens: int | None
    max_completion_tokens: int | None
    temperature: float | None
    top_p: float | None
    n: int
    stop: str | list[str] | None
    seed: int | None
    response_format: ResponseFormat | None


def generation_settings(request: GenerationRequest, config: GenerationConfig, max_new_tokens: int) -> dict[str, Any]:
    """The options of `GenerationConfig` that a request changes.

    `top_p` of 1 keeps all tokens, and a `seed` without sampling changes nothing, so neither becomes an option.

    config: the options of the recipe
    max_new_tokens: the limit of the service

    Raises:
        RequestError: a value is over a limit, or the format of the response is incomplete.
    """
    changes: dict[str, Any] = {}
    length = request.max_completion_tokens if request.max_completion_tokens is not None else request.max_tokens
    if length is not None and length > max_new_tokens:
        raise RequestError(f"max_tokens is at most {max_new_tokens} here", code="limit", param="max_tokens")
    if length is not None:
        changes["max_new_tokens"] = length
    if request.temperature is not None:
        changes["temperature"] = request.temperature
    if request.top_p is not None and request.top_p < 1:
        changes["top_p"] = request.top_p
    if request.n > 1:
        changes["num_return_sequences"] = request.n
    if request.seed and changes.get("temperature", config.temperature) > 0:
        changes["seed"] = request.seed
    if request.stop:
        stop = [request.stop] if isinstance(request.stop, str) else request.stop
        if len(stop) > MAX_STOP or not all(stop):
            raise RequestError(f"stop has 1 to {MAX_STOP} strings, none of them empty", param="stop")
        changes["stop_strings"] = stop
    schema = _schema(request.response_format)
    if schema is not None:
        changes["json_schema"] = schema
    return changes


def _schema(given: ResponseFormat | None) -> dict[str, Any] | None:
    if given is None or given.type == "text":
        return None
    schema = None if given.json_schema is None else given.json_schema.schema_
    if schema is None:
        raise RequestError("response_format.json_schema.schema is missing", param="response_format")
    if len(json.dumps(schema)) > MAX_SCHEMA:
        raise RequestError(f"the JSON schema has more than {MAX_SCHEMA} characters", param="response_format")
    return schema
