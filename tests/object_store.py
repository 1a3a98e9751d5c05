"""An S3 server on this machine, started once in a session."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from polymodal.data.objects import ObjectPath

BUCKET = "s3://tables"


def upload(folder: Path, address: str) -> str:
    """Put all files of a folder below an address, which is returned."""
    for file in sorted(one for one in folder.rglob("*") if one.is_file()):
        target = ObjectPath.parse(f"{address}/{file.relative_to(folder).as_posix()}")
        assert target is not None
        with target._file_system().open_output_stream(target._inner) as stream:
            stream.write(file.read_bytes())
    return address


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The address of an empty bucket."""
    server: Any = pytest.importorskip("moto.server", reason="the S3 server of moto is not installed")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ACCESS_KEY_ID", "of-a-test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "of-a-test")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        from pyarrow import fs

        found, _ = fs.FileSystem.from_uri(f"{BUCKET}?allow_bucket_creation=true")
        found.create_dir("tables")
        yield BUCKET
        running.stop()
