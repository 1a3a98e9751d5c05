"""The official client drives the service: types, streams, errors."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import openai
import pytest
from PIL import Image

from polymodal.model.model import Model
from service import KEY, data_address


@pytest.fixture(scope="module")
def api(service: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{service}/v1", api_key=KEY, timeout=120, max_retries=0) as found:
        yield found


def image_part(data: bytes) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": data_address(data, "image/png"), "detail": "low"}}


@pytest.fixture(scope="module")
def messages(dialogues: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """The second question about a scene, after the first."""
    parts = [{"type": "text", "text": dialogues["question"][1]}, image_part(dialogues["image"][1])]
    return [*dialogues["history"][1], {"role": "user", "content": parts}]


@pytest.fixture(scope="module")
def row(dialogues: dict[str, list[Any]]) -> dict[str, Any]:
    return {name: dialogues[name][1] for name in ("image", "history", "question")}


def test_models(api: openai.OpenAI) -> None:
    found = {one.id: one for one in api.models.list()}
    assert set(found) == {"mixed", "chat"}
    assert {"text", "image", "audio", "number"} <= set(found["mixed"].architecture["input_modalities"])  # type: ignore[attr-defined]
    assert "skewed" in found["mixed"].columns  # type: ignore[attr-defined]
    assert api.models.retrieve("chat").architecture["output_modalities"] == ["text"]  # type: ignore[attr-defined]
    with pytest.raises(openai.NotFoundError) as told:
        api.models.retrieve("chta")
    assert told.value.code == "model_not_found"
    assert "did you mean 'chat'" in str(told.value)
    assert told.value.request_id


def test_a_chat_gets_the_text_of_the_library(
    api: openai.OpenAI, chat: Model, messages: list[Any], row: dict[str, Any]
) -> None:
    ((wanted,),) = chat.generate(row)
    found = api.chat.completions.create(model="chat", messages=messages, temperature=0)
    assert found.object == "chat.completion"
    assert found.choices[0].message.content == wanted.text
    assert found.choices[0].finish_reason == {"end": "stop", "length": "length"}[wanted.finish_reason]
    assert found.usage is not None
    assert found.usage.completion_tokens == len(wanted.tokens)
    assert found.usage.prompt_tokens > len(row["question"].split())


def test_a_chat_is_streamed(api: openai.OpenAI, chat: Model, messages: list[Any], row: dict[str, Any]) -> None:
    ((wanted,),) = chat.generate(row, max_new_tokens=12)
    usage = {"include_usage": True}
    with api.chat.completions.create(
        model="chat", messages=messages, max_tokens=12, stream=True, stream_options=usage
    ) as stream:
        chunks = list(stream)
    assert "".join(one.choices[0].delta.content or "" for one in chunks if one.choices) == wanted.text
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [one.choices[0].finish_reason for one in chunks if one.choices][-1] in ("stop", "length")
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == len(wanted.tokens)


def test_several_sampled_texts(api: openai.OpenAI, chat: Model, messages: list[Any], row: dict[str, Any]) -> None:
    (wanted,) = chat.generate(row, temperature=1.5, num_return_sequences=3, seed=7, top_p=0.95)
    found = api.chat.completions.create(model="chat", messages=messages, n=3, temperature=1.5, top_p=0.95, seed=7)
    assert [one.message.content for one in found.choices] == [one.text for one in wanted]
    assert [one.index for one in found.choices] == [0, 1, 2]


def test_embeddings_of_texts_and_parts(api: openai.OpenAI, mixed: Model, mixed_columns: dict[str, list[Any]]) -> None:
    """The client asks for base64 by default and decodes it."""
    texts = ["amber cloud", "drift"]
    found = api.embeddings.create(model="mixed", input=texts)
    assert [one.index for one in found.data] == [0, 1]
    wanted = mixed.embed([{"text": text} for text in texts], input="in_text")
    np.testing.assert_allclose([one.embedding for one in found.data], wanted, atol=1e-5)
    image = mixed_columns["image"][0]
    item: Any = [{"content": [image_part(image)]}]
    found = api.embeddings.create(model="mixed", input=item, encoding_format="float", dimensions=8)
    wanted = mixed.embed([{"image": image}], input="in_image", dim=8)
    np.testing.assert_allclose(found.data[0].embedding, wanted[0], atol=1e-5)
    with pytest.raises(openai.BadRequestError, match="token ids"):
        api.embeddings.create(model="mixed", input=[[1, 2, 3]])
    with pytest.raises(openai.BadRequestError, match="dim cannot be 100000"):
        api.embeddings.create(model="mixed", input="amber", dimensions=100_000)


def test_a_key_is_needed(service: str) -> None:
    for key in ("wrong-key-of-tests", KEY + "x", KEY[:-1]):
        with openai.OpenAI(base_url=f"{service}/v1", api_key=key, max_retries=0) as stranger:
            with pytest.raises(openai.AuthenticationError) as told:
                stranger.models.list()
            assert told.value.code == "invalid_api_key"


def asked(*parts: dict[str, Any]) -> dict[str, Any]:
    """A chat of one message."""
    return {"messages": [{"role": "user", "content": list(parts)}]}


FILE, ADDRESS = ({"type": "image_url", "image_url": {"url": one}} for one in ("/etc/passwd", "http://127.0.0.1/a"))
SOUND = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model": "mixed"}, "generates no texts"),
        ({"messages": [{"role": "assistant", "content": "a"}]}, "last message must be by the user"),
        (asked(FILE), "not read"),
        (asked(ADDRESS), "not read"),
        (asked(SOUND), "takes none"),
        (asked({"type": "picture"}), "no part of type 'picture'"),
        ({"max_tokens": 1_000_000}, "at most 1024"),
        ({"top_p": 0.5}, "requires sampling"),
        ({"n": 2}, "num_return_sequences exceeds num_beams"),
        ({"n": 4000}, "n: Input should be less than or equal to 8"),
        ({"extra_body": {"guided_regex": "a"}}, "guided_regex: there is no such key"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}}, "schema is missing"),
        ({"stream": True, "n": 2, "temperature": 1}, "streaming supports one sequence"),
        ({"stop": [""]}, "none of them empty"),
    ],
)
def test_wrong_requests_are_told_why(api: openai.OpenAI, changes: dict[str, Any], says: str) -> None:
    request: dict[str, Any] = {"model": "chat", "messages": [{"role": "user", "content": "how many?"}], **changes}
    with pytest.raises(openai.BadRequestError) as told:
        api.chat.completions.create(**request)
    assert says in str(told.value)
    assert told.value.type == "invalid_request_error"
    assert told.value.request_id


def test_a_damaged_image_is_an_error_of_the_client(api: openai.OpenAI) -> None:
    file = io.BytesIO()
    Image.new("RGB", (64, 64)).save(file, "PNG")
    for data, says in ((b"no image", "supported format"), (file.getvalue()[:60], "damaged")):
        with pytest.raises(openai.BadRequestError) as told:
            api.chat.completions.create(
                model="chat",
                messages=[{"role": "user", "content": [{"type": "text", "text": "a?"}, image_part(data)]}],  # type: ignore[list-item]
            )
        assert says in str(told.value)
        assert told.value.code == "invalid_cell"


def test_json_of_a_schema(api: openai.OpenAI, messages: list[Any]) -> None:
    pytest.importorskip("llguidance")
    schema = {
        "type": "object",
        "properties": {"count": {"enum": [1, 2]}},
        "required": ["count"],
        "additionalProperties": False,
    }
    given: Any = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}
    found = api.chat.completions.create(model="chat", messages=messages, response_format=given, max_tokens=64)
    assert json.loads(found.choices[0].message.content or "")["count"] in (1, 2)


def test_decisions(api: openai.OpenAI, mixed: Model, mixed_columns: dict[str, list[Any]]) -> None:
    """Each kind of question, about a picture and cells: the probabilities are those of the library."""
    row = {"image": mixed_columns["image"][2], "skewed": mixed_columns["skewed"][2]}
    whole = dict.fromkeys(mixed.preparation.input_columns) | row
    proba, classes = mixed.predict_proba([whole]), mixed.classes
    one = dict(zip(classes["y_classification"], proba["y_classification"][0], strict=True))
    label, share = classes["y_multilabel_classification"][0], proba["y_multilabel_classification"][0][0]
    picture: Any = {"type": "input_image", "image_url": data_address(row["image"]), "detail": "auto"}
    cells: Any = {"type": "input_json", "data": {"skewed": row["skewed"]}}
    own = {"name": "y_classification", "instructions": "Which?"}
    ask: Any = [
        {"type": "choice", **own, "choices": [{"value": value} for value in one]},
        {"type": "predicate", "name": f"y_multilabel_classification.{label}", "instructions": "Is it?"},
        {"type": "score", **own, "levels": [{"label": "no"}, {"label": "yes"}]},
    ]
    message: Any = {"role": "user", "content": [picture, cells]}
    choice, predicate, score = api.decisions.create(model="mixed", input=[message], questions=ask).answers
    assert choice.type == "choice"
    assert choice.choice == max(one, key=one.__getitem__)
    assert choice.confidence == pytest.approx(max(one.values()), abs=1e-5)
    assert {part.value: part.probability for part in choice.probabilities} == pytest.approx(one, abs=1e-5)
    assert predicate.type == "predicate"
    assert predicate.probability == pytest.approx(share, abs=1e-5)
    assert score.type == "score"
    assert score.score == pytest.approx(one["yes"] / (one["yes"] + one["no"]), abs=1e-5)
    assert [part.value for part in score.probabilities] == [0, 1]


CLASSES = "y_classification"


@pytest.mark.parametrize(
    ("question", "says"),
    [
        ({"name": CLASSES, "choices": [{"value": "yes"}, {"value": "oui"}]}, "no class 'oui'"),
        ({"name": CLASSES, "choices": [{"value": "yes"}, {"value": "yes"}]}, "given twice"),
        ({"name": CLASSES, "choices": [{"value": "yes"}]}, "a choice needs at least 2 choices"),
        ({"name": "y_clas", "choices": [{"value": "a"}, {"value": "b"}]}, f"did you mean '{CLASSES}'"),
        ({"type": "predicate", "name": CLASSES}, "other classes than true and false"),
        ({"type": "predicate", "name": CLASSES, "choices": [{"value": "yes"}]}, "a predicate has no choices"),
        ({"type": "guess"}, "questions.0.type"),
    ],
)
def test_wrong_questions_are_told_why(api: openai.OpenAI, question: Any, says: str) -> None:
    with pytest.raises(openai.BadRequestError) as told:
        api.decisions.create(
            model="mixed", input="amber", questions=[{"type": "choice", "instructions": "?"} | question]
        )
    assert says in str(told.value)


def test_a_model_without_classes_makes_no_decisions(api: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="has no classes"):
        api.decisions.create(model="chat", input="amber", questions=[{"type": "predicate", "instructions": "?"}])
