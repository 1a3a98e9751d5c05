"""Attacks and mistakes: nothing is read for a client, limits hold, and errors tell no internals."""

from __future__ import annotations

import json
import logging
import shutil
import socket
import threading
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import httpx
import pytest
from PIL import Image

from polymodal.serving.operations.prediction import PredictRows
from service import KEY, data_address, error_of, png, running


@pytest.fixture
def visited() -> Iterator[list[str]]:
    """The paths that were asked of a server of this machine; its address is the first entry."""
    found: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.append(self.path)
            self.send_error(404)

        def log_message(self, *_: Any) -> None:
            """Nothing is printed."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    found.append(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


def test_no_file_and_no_address_is_read(client: httpx.Client, tmp_path: Path, visited: list[str]) -> None:
    picture = tmp_path / "picture.png"
    picture.write_bytes(png(Image.new("RGB", (40, 40), "red")))
    (address,) = visited
    for cell in (
        str(picture), picture.as_uri(), f"{address}/a.png", f"//{urlparse(address).netloc}/a.png", "s3://bucket/a.png",
        "../a.png", "picture.png", "", {"path": str(picture)}, {"bytes": None, "path": str(picture)}, [[1]], 3, True,
        f"data:image/png,{picture}", "data:image/png;base64,****", "data:", "data:;base64",
    ):  # fmt: skip
        answer = client.post("/v1/predict", json={"model": "mixed", "rows": [{"image": cell}]})
        assert answer.status_code == 400, cell
        assert error_of(answer)["code"] in ("invalid_cell", "empty_row")
        assert str(tmp_path) not in answer.text
        parts = [{"type": "image_url", "image_url": {"url": cell}}]
        answer = client.post("/v1/embeddings", json={"model": "mixed", "input": [{"content": parts}]})
        assert answer.status_code == 400, cell
    text = client.post("/v1/predict", json={"model": "mixed", "rows": [{"text": str(picture)}]})
    assert text.status_code == 200  # a text is only a text
    assert visited == [address]


def test_bombs_are_refused(client: httpx.Client) -> None:
    """A small file that would become a large image, and a large number of levels."""
    header = png(Image.new("L", (8, 8)))
    size = (20_000).to_bytes(4, "big") * 2
    chunk = b"IHDR" + size + header[24:29]
    bomb = header[:12] + chunk + zlib.crc32(chunk).to_bytes(4, "big") + header[33:]
    answer = client.post("/v1/predict", json={"model": "mixed", "rows": [{"image": data_address(bomb)}]})
    assert "more pixels than the decoder allows" in error_of(answer)["message"]
    deep = '{"rows": ' + "[" * 200_000 + "]" * 200_000 + "}"
    answer = client.post("/v1/predict", content=deep, headers={"content-type": "application/json"})
    assert error_of(answer)["code"] == "invalid_json"
    many = '{"rows": [' + "{}," * 600_000 + "{}]}"
    answer = client.post("/v1/predict", content=many, headers={"content-type": "application/json"})
    assert error_of(answer)["message"] == "the body has more than 1,000,000 values"


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ({"txet": "a"}, "unknown_column"),
        ({}, "empty_row"),
        ({"text": None}, "empty_row"),
        ({"text": "\ud800"}, "invalid_cell"),
        ({"skewed": 10**400}, "invalid_cell"),
        ({"skewed": 2**80}, "invalid_cell"),
        ({"skewed": "many"}, "invalid_cell"),
        ({"skewed": {"a": 1}}, "invalid_cell"),
        ({"ordered": "tomorrow"}, "invalid_cell"),
        ({"sound": data_address(b"no sound")}, "invalid_cell"),
        ({"time_series": "[[1, 2]]"}, "invalid_cell"),
    ],
)
def test_bad_rows_are_errors_that_name_them(client: httpx.Client, row: dict[str, Any], code: str) -> None:
    body = json.dumps({"model": "mixed", "rows": [{"text": "fine"}, row]})
    answer = client.post("/v1/predict", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400, answer.text
    told = error_of(answer)
    assert told["code"] == code
    assert "row 1" in told["message"]


def test_a_key_on_every_route(service: str) -> None:
    with httpx.Client(base_url=service, timeout=60) as stranger:
        assert stranger.get("/health").json() == {"status": "ok"}
        for method, path in (
            ("GET", "/v1/models"), ("GET", "/metrics"), ("GET", "/nothing"), ("GET", "/health/"), ("GET", "//health"),
            ("POST", "/v1/predict"), ("POST", "/v1/embeddings"), ("POST", "/v1/chat/completions"), ("GET", "/docs"),
        ):  # fmt: skip
            for headers in ({}, {"authorization": KEY}, {"authorization": f"Basic {KEY}"}, {"x-api-key": KEY}):
                answer = stranger.request(method, path, headers=headers)
                assert answer.status_code == 401, (method, path)
                assert error_of(answer)["type"] == "authentication_error"


def test_without_a_key_only_this_machine_is_answered(folders: dict[str, Path]) -> None:
    """A web page whose name resolves to this machine sends its own name as host."""
    with running({"chat": folders["chat"]}) as address, httpx.Client(base_url=address, timeout=60) as client:
        assert client.get("/v1/models").status_code == 200
        assert client.get("/v1/models", headers={"host": "localhost:80"}).status_code == 200
        for host in ("evil.example", "127.0.0.1.evil.example:80", "localhost.evil.example", "", "evil@localhost:1"):
            assert client.get("/v1/models", headers={"host": host}).status_code in (400, 403), host
        answer = client.get("/v1/models", headers={"origin": "http://evil.example"})
        assert "access-control-allow-origin" not in answer.headers


def test_limits_of_bodies(folders: dict[str, Path]) -> None:
    models = {"mixed": folders["mixed"]}
    with (
        running(models, max_body_mib=0.01, max_rows=4) as address,
        httpx.Client(base_url=address, timeout=60) as client,
    ):
        large = {"rows": [{"text": "a" * 20_000}]}
        assert client.post("/v1/predict", json=large).status_code == 413
        body = json.dumps(large).encode()
        chunks = (body[at : at + 1000] for at in range(0, len(body), 1000))
        headers = {"content-type": "application/json"}
        assert client.post("/v1/predict", content=chunks, headers=headers).status_code == 413
        assert error_of(client.post("/v1/predict", json={"rows": [{"text": "a"}] * 5}))["code"] == "number_of_rows"
        assert error_of(client.post("/v1/predict", json={"rows": []}))["code"] == "number_of_rows"
        assert client.post("/v1/predict", data={"rows": "a"}).status_code == 415
        assert client.post("/v1/predict", files={"image": b"a" * 20_000}).status_code == 413
        many = {f"f{n}": (None, "") for n in range(100)}
        assert client.post("/v1/predict", files=many).status_code in (400, 413)


def test_a_body_must_arrive_in_time(folders: dict[str, Path]) -> None:
    with running({"mixed": folders["mixed"]}, body_seconds=0.2) as address:
        slow = send_head(address, "/v1/predict", 100)
        assert slow.recv(1000).startswith(b"HTTP/1.1 408")
        slow.close()


def send_head(address: str, path: str, length: int) -> socket.socket:
    """A connection that has sent the head of a request, and nothing of its body."""
    place = urlparse(address)
    connection = socket.create_connection((place.hostname, place.port), timeout=60)
    head = f"POST {path} HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: application/json\r\n"
    connection.sendall(f"{head}Content-Length: {length}\r\n\r\n".encode())
    return connection


def wait_for(line: str, client: httpx.Client) -> None:
    """Ask for the measurements until they have this line."""
    for _ in range(10_000):
        if line in client.get("/metrics").text:
            return
    raise AssertionError(line)


def test_a_busy_service_says_so(folders: dict[str, Path]) -> None:
    models = {"mixed": folders["mixed"]}
    with running(models, max_requests=1) as address, httpx.Client(base_url=address, timeout=60) as client:
        waiting = send_head(address, "/v1/predict", 2)
        wait_for("polymodal_active_requests 1.0", client)
        answer = client.post("/v1/predict", json={"rows": [{"text": "a"}]})
        assert answer.status_code == 429
        assert error_of(answer)["type"] == "rate_limit_error"
        assert float(answer.headers["retry-after"]) > 0
        waiting.sendall(b"{}")
        assert waiting.recv(10_000).startswith(b"HTTP/1.1 400")
        waiting.close()
        wait_for("polymodal_active_requests 0.0", client)
        assert client.post("/v1/predict", json={"rows": [{"text": "a"}]}).status_code == 200


def test_rows_of_a_client_that_has_gone_are_not_computed(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One request is computed, another waits, and its client closes the connection."""
    entered, opened, computed = threading.Event(), threading.Event(), []
    compute = PredictRows.compute

    def held(self: PredictRows, served: Any, rows: list[Any]) -> list[Any]:
        computed.append(rows[0]["text"])
        entered.set()
        assert opened.wait(60)
        return compute(self, served, rows)

    monkeypatch.setattr(PredictRows, "compute", held)
    with running({"mixed": folders["mixed"]}) as address, httpx.Client(base_url=address, timeout=60) as client:
        connections = []
        for text in ("first", "gone"):
            body = json.dumps({"rows": [{"text": text}]}).encode()
            connections.append(send_head(address, "/v1/predict", len(body)))
            connections[-1].sendall(body)
            assert entered.wait(60)
        wait_for("polymodal_active_requests 2.0", client)
        connections[1].close()
        wait_for("polymodal_active_requests 1.0", client)
        opened.set()
        assert connections[0].recv(1000).startswith(b"HTTP/1.1 200")
        assert client.post("/v1/predict", json={"rows": [{"text": "last"}]}).status_code == 200
        connections[0].close()
    assert computed == ["first", "last"]


def test_errors_and_the_log_tell_no_content(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An error of the program itself: the client gets an id, the log the type and the place."""

    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("secret cell")

    monkeypatch.setattr("polymodal.serving.operations.prediction.PredictRows.compute", broken)
    with running({"mixed": folders["mixed"]}) as address, httpx.Client(base_url=address, timeout=60) as client:
        caplog.set_level(logging.INFO, "polymodal.serving")
        answer = client.post("/v1/predict", json={"rows": [{"text": "secret text"}]})
        client.get("/secret/path?secret=1")
    assert answer.status_code == 500
    assert answer.headers["x-should-retry"] == "false"
    assert error_of(answer)["code"] == "internal_error"
    assert "secret" not in answer.text
    lines = [json.loads(one.message) for one in caplog.records if one.name == "polymodal.serving"]
    assert "secret" not in json.dumps(lines)
    (told,) = [one for one in lines if one["event"] == "exception"]
    assert told["type"] == "ZeroDivisionError"
    assert told["id"] == answer.headers["x-request-id"]
    assert any("test_serving_security" in place for place in told["places"])
    assert {one["status"] for one in lines if one["event"] == "request"} == {500, 404}


def test_a_damaged_model_is_told_to_the_operator_only(
    folders: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = shutil.copytree(folders["mixed"], tmp_path / "damaged")
    (damaged / "model.safetensors").write_bytes(b"nothing")
    caplog.set_level(logging.INFO, "polymodal.serving")
    with running({"damaged": damaged}) as address, httpx.Client(base_url=address, timeout=60) as client:
        answer = client.post("/v1/predict", json={"rows": [{"text": "a"}]})
    assert answer.status_code == 500
    assert str(tmp_path) not in answer.text
    lines = [json.loads(one.message) for one in caplog.records if one.name == "polymodal.serving"]
    (told,) = [one for one in lines if one["event"] == "exception"]
    assert told["type"] == "ArtifactError"
    assert "model.safetensors" in told["message"]


def test_metrics_are_those_of_prometheus(client: httpx.Client) -> None:
    parser = pytest.importorskip("prometheus_client.parser")
    client.post("/v1/predict", json={"model": "mixed", "rows": [{"text": "a"}]})
    client.get("/no/such/place")
    found = {one.name: one for one in parser.text_string_to_metric_families(client.get("/metrics").text)}
    routes = {one.labels["route"] for one in found["polymodal_requests"].samples}
    assert "/v1/predict" in routes
    assert "unknown" in routes
    assert not any("such" in route for route in routes)
    assert found["polymodal_batch_rows"].samples
