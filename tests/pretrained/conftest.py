"""A local hub server with the API paths that huggingface_hub requests, over real HTTP."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Repository:
    """Files by path at one commit of a branch; gated: access is denied; license: in its model card."""

    files: dict[str, bytes]
    commit: str = COMMIT
    gated: bool = False
    license: str = "mit"
    branch: str = "main"


@dataclass
class Hub:
    """The repositories of the server, and the requests it received (`GET owner/name/resolve/...`)."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def add(self, repo: str, folder: Path, **facts: Any) -> None:
        """Publish the files of a folder."""
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        self.repositories[repo] = Repository(files, **facts)

    def fetched(self) -> set[str]:
        """The files whose content was asked for, without owner, name and commit."""
        return {one.split("/", 5)[-1] for one in self.asked if one.startswith("GET ") and "/resolve/" in one}


def answer(hub: Hub, path: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and content."""
    parts = unquote(urlsplit(path).path).strip("/").split("/")
    api = parts[:2] == ["api", "models"]
    parts = parts[2:] if api else parts
    name, rest = "/".join(parts[:2]), parts[2:]
    repository = hub.repositories.get(name)
    if repository is None:
        return 404, {"X-Error-Code": "RepoNotFound"}, b"{}"
    if repository.gated:
        return 403, {"X-Error-Code": "GatedRepo"}, b"{}"
    revision = "main" if not rest else "/".join(rest[1:]) if rest[0] == "revision" else rest[1]
    if revision not in (repository.branch, repository.commit):
        return 404, {"X-Error-Code": "RevisionNotFound"}, b"{}"
    if api:
        sizes = {file: len(content) for file, content in repository.files.items()}
        if rest and rest[0] == "tree":
            value: Any = [{"type": "file", "path": file, "size": n, "oid": oid(file)} for file, n in sizes.items()]
        else:
            value = {"id": name, "sha": repository.commit, "cardData": {"license": repository.license}}
            value["siblings"] = [{"rfilename": file, "size": n} for file, n in sizes.items()]
            value["safetensors"] = {"parameters": {"F32": 1_500_000}, "total": 1_500_000}
        return 200, {"Content-Type": "application/json"}, json.dumps(value).encode()
    file = "/".join(rest[2:])
    if file not in repository.files:
        return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": repository.commit}, b""
    headers = {"ETag": f'"{oid(file)}"', "X-Repo-Commit": repository.commit}
    return 200, headers, repository.files[file]


def oid(file: str) -> str:
    return hashlib.sha1(file.encode()).hexdigest()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The hub that huggingface_hub connects to, with empty caches."""
    found = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.reply(False)

        def do_GET(self) -> None:
            self.reply(True)

        def reply(self, body: bool) -> None:
            found.asked.append(f"{self.command} {self.path}")
            status, headers, content = answer(found, self.path)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, format: str, *values: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    point_at(f"http://127.0.0.1:{server.server_port}", tmp_path, monkeypatch)
    yield found
    server.shutdown()
    server.server_close()


@pytest.fixture
def no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that refuses every connection."""
    point_at("http://127.0.0.1:9", tmp_path, monkeypatch)


def point_at(address: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    constants = pytest.importorskip("huggingface_hub").constants
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "hub"))
    monkeypatch.setenv("POLYMODAL_CACHE", str(folder / "own"))
