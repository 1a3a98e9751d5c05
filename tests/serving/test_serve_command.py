"""The command `serve`: a process that answers, ends on SIGTERM, and refuses what is not safe."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from command_line import run_command
from polymodal.serving.options import ServingOptions
from polymodal.serving.service import KEY_VARIABLE, serve
from service import KEY


def test_a_process_answers_and_ends_on_sigterm(folders: dict[str, Path], tmp_path: Path) -> None:
    """A stream that runs when the signal arrives ends whole."""
    words = [sys.executable, "-m", "polymodal", "serve", str(folders["chat"]), f"second={folders['mixed']}"]
    log = (tmp_path / "log").open("w")
    process = subprocess.Popen(
        [*words, "--port", "0"], stdout=subprocess.PIPE, stderr=log, text=True, env={**os.environ, KEY_VARIABLE: KEY}
    )
    assert process.stdout is not None
    try:
        said = process.stdout.readline()
        assert said.startswith("chat, second at http://127.0.0.1:"), said
        address = said.split()[-1]
        asked = {"model": "chat", "messages": [{"role": "user", "content": "how many?"}], "stream": True}
        with httpx.Client(base_url=address, headers={"authorization": f"Bearer {KEY}"}, timeout=120) as client:
            assert [one["loaded"] for one in client.get("/v1/models").json()["data"]] == [False, False]
            with client.stream("POST", "/v1/chat/completions", json=asked) as answer:
                assert answer.status_code == 200
                process.send_signal(signal.SIGTERM)
                assert answer.read().endswith(b"data: [DONE]\n\n")
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.stdout.close()
        log.close()
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines() if line.startswith("{")]
    assert [one["route"] for one in lines] == ["/v1/models", "/v1/chat/completions"]
    assert all(one["status"] == 200 for one in lines)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nothing"], "holds no model"),
        (["{chat}", "--host", "0.0.0.0"], "needs a key"),
        (["{chat}", "--host", "example.invalid"], "needs a key"),
        (["{chat}", "{chat}"], "two models have the name 'chat'"),
        (["={chat}"], "gives no name"),
        (["{chat}", "--port", "{taken}"], "cannot listen on 127.0.0.1"),
        (["{chat}", "--device", "tpu"], "there is no device"),
        (["{chat}", "--max-body-mib", "-1"], "must be above 0"),
    ],
)
def test_what_is_wrong_is_said_at_once(words: list[str], says: str, folders: dict[str, Path]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        values = {"chat": folders["chat"], "taken": taken.getsockname()[1]}
        done = run_command("serve", *(word.format_map(values) for word in words), env={KEY_VARIABLE: ""})
    assert done.returncode == 2
    assert says in " ".join(done.stderr.split())


def test_a_short_key_is_refused(folders: dict[str, Path]) -> None:
    done = run_command("serve", str(folders["chat"]), env={KEY_VARIABLE: "short"})
    assert done.returncode == 2
    assert "at least 16 characters" in done.stderr
    assert "short" not in done.stderr.replace("too short", "")


def test_a_missing_extra_names_its_command(monkeypatch: pytest.MonkeyPatch, folders: dict[str, Path]) -> None:
    from polymodal.core.errors import MissingExtraError

    monkeypatch.delitem(sys.modules, "polymodal.serving.server", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(MissingExtraError, match=r"uvicorn: pip install 'polymodal\[serve\]'"):
        serve({"chat": folders["chat"]}, ServingOptions(port=0))
