"""A PostgreSQL server on this machine, started once in a session."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PASSWORD = "only-of-a-test"


def programs() -> Path | None:
    """The folder with `initdb` and `pg_ctl`, of the newest version."""
    places = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    found = shutil.which("initdb")
    return max(places, key=lambda path: path.parent.name) if places else Path(found).parent if found else None


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The URL of an empty database."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    folder = programs()
    if folder is None:
        pytest.skip("PostgreSQL is not installed")
    place = Path(tempfile.mkdtemp(prefix="polymodal-postgresql-"))
    (place / "password").write_text(PASSWORD)
    as_user = ["setpriv", "--pdeathsig=INT"]  # the server ends with the tests, also if they are killed
    if os.geteuid() == 0:  # it refuses to run as root
        for path in (place, place / "password"):
            shutil.chown(path, "nobody")
        as_user += ["--reuid=nobody", "--clear-groups"]
    data = ["-D", str(place / "data")]
    options = ["-U", "tester", "-A", "scram-sha-256", f"--pwfile={place / 'password'}", "-N", "--no-instructions"]
    quiet: dict[str, Any] = {"cwd": place, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([*as_user, str(folder / "initdb"), *data, *options], check=True, timeout=120, **quiet)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["-F", "-p", str(port), "-k", str(place), "-c", "listen_addresses=127.0.0.1"]
    with subprocess.Popen([*as_user, str(folder / "postgres"), *data, *options], **quiet) as server:
        try:
            url = f"postgresql://tester:{PASSWORD}@127.0.0.1:{port}/postgres"
            _wait_for(url)
            yield url
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(60)
            shutil.rmtree(place)


def _wait_for(url: str) -> None:
    import psycopg

    end = time.monotonic() + 60
    while True:
        try:
            psycopg.connect(url).close()
            return
        except psycopg.OperationalError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
