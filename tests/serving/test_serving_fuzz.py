"""Random requests: each gets an answer or an error of the client, never an error of the service."""

from __future__ import annotations

import json
from typing import Any

import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service import data_address, error_of

CELLS = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats() | st.text(max_size=20)
    | st.binary(max_size=30).map(data_address) | st.sampled_from(["data:;base64,", "/etc/passwd", "file:///etc/passwd"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
COLUMNS = ["text", "image", "sound", "time_series", "skewed", "often", "sent", "clock", "history", "question"]
ROW = st.dictionaries(st.sampled_from(COLUMNS) | st.text(max_size=5), CELLS, max_size=4)
PART = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "image_url", "input_audio", "input_image", "video_url", "x"])},
    optional={"text": CELLS, "image_url": CELLS, "input_audio": CELLS, "video_url": CELLS},
)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system"]), "content": st.lists(PART, max_size=3) | CELLS}
)
MODEL = st.sampled_from(["mixed", "chat"])
ITEMS = st.lists(st.fixed_dictionaries({"row": ROW}) | CELLS, max_size=2)
INPUT = st.lists(MESSAGE, max_size=1) | CELLS
QUESTION = st.fixed_dictionaries(
    {"type": st.sampled_from(["choice", "predicate", "score"])},
    optional={"name": CELLS, "choices": CELLS, "levels": CELLS},
)
BODIES = st.one_of(
    st.tuples(
        st.just("/v1/decisions"),
        st.fixed_dictionaries(
            {
                "model": MODEL,
                "input": st.lists(MESSAGE, max_size=1) | CELLS,
                "questions": st.lists(QUESTION, max_size=2),
            }
        ),
    ),
    st.tuples(st.just("/v1/predict"), st.fixed_dictionaries({"model": MODEL, "rows": st.lists(ROW, max_size=3)})),
    st.tuples(
        st.just("/v1/embeddings"),
        st.fixed_dictionaries(
            {"model": MODEL, "input": ITEMS},
            optional={"dimensions": CELLS, "embed_input": CELLS},
        ),
    ),
    st.tuples(
        st.just("/v1/chat/completions"),
        st.fixed_dictionaries(
            {"model": st.just("chat"), "messages": st.lists(MESSAGE, max_size=3), "max_tokens": st.just(3)},
            optional={"temperature": CELLS, "n": CELLS, "stream": st.booleans(), "seed": CELLS, "stop": CELLS},
        ),
    ),
    st.tuples(st.sampled_from(["/v1/predict", "/v1/chat/completions", "/v1/embeddings", "/v1/decisions"]), CELLS),
)


@given(BODIES)
@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_no_body_breaks_the_service(client: httpx.Client, asked: tuple[str, Any]) -> None:
    path, body = asked
    answer = client.post(path, content=json.dumps(body), headers={"content-type": "application/json"})
    assert answer.status_code in (200, 400, 404), (body, answer.text)
    if answer.status_code != 200:
        error_of(answer)


@given(st.binary(max_size=200), st.sampled_from(["application/json", "multipart/form-data; boundary=a", "text/plain"]))
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_no_bytes_break_the_service(client: httpx.Client, body: bytes, kind: str) -> None:
    for data in (body, b"--a\r\n" + body + b"\r\n--a--\r\n"):
        for path in ("/v1/predict?model=mixed", "/v1/audio/transcriptions"):
            answer = client.post(path, content=data, headers={"content-type": kind})
            assert answer.status_code in (400, 415), (data, answer.text)
            error_of(answer)
