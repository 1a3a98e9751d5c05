"""Prepared rows: how fast a table is prepared, and how fast and in how much memory its rows are streamed."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from benchmarks.record import Record
from polymodal.applications.batch_preparation.prepare import prepare

RECIPE: dict[str, Any] = {
    "inputs": {
        "image": {"columns": ["image"], "modality": {"name": "image", "image_size": 64}, "encoder": {"name": "vit"}}
    },
    "outputs": {"kind": {"columns": ["kind"], "task": "classification"}},
    "training": {"num_threads": 1},
}
#: Seconds that each answer of the distant object store is late.
LATENCY = 0.05


def run(smallest: bool) -> Record:
    """Rows per second of preparation and of streaming, and the memory of streaming."""
    record = Record(
        name="prepared_rows",
        title="Preparing a table of images, and streaming its rows",
        method=(
            "A Parquet file of JPEG images of 128 x 128 pixels, decoded and stored at 64 x 64. Preparation: "
            "`polymodal.prepare` in this process, and with two actors of a Ray cluster on this machine; starting Ray "
            "is included. Streaming: a fresh process draws the batches of one epoch of training (64 rows) from the "
            "store, without a network; 4 row groups of 64 rows are open. The object store is an S3 server on this "
            "machine, also behind a proxy that answers each request 50 ms later. Peak resident memory includes "
            "libraries."
        ),
        unit="rows/s",
        larger_is_better=True,
    )
    rows = 320 if smallest else 2_560
    with TemporaryDirectory() as name:
        place = Path(name)
        write_table(place / "small.parquet", rows // 2 if smallest else rows // 10)
        write_table(place / "large.parquet", rows)
        record.values["prepare, 1 process"] = [prepared(place / "large.parquet", place / "large", rows)]
        prepared(place / "small.parquet", place / "small", rows)
        if importlib.util.find_spec("ray") is not None and not smallest:
            options: dict[str, Any] = {"engine": "ray", "workers": 2}
            record.values["prepare, Ray, 2 actors"] = [
                prepared(place / "large.parquet", place / "ray", rows, **options)
            ]
        disk, small = streamed(str(place / "large")), streamed(str(place / "small"))
        record.values["stream, disk"] = [disk["rows_per_second"]]
        memory = [["rows", "MiB of the store", "peak resident MiB"]]
        for store, found in (("small", small), ("large", disk)):
            size = sum(file.stat().st_size for file in (place / store).iterdir()) / 2**20
            memory.append([f"{found['rows']:,}", f"{size:.1f}", f"{found['peak_mib']:.1f}"])
        record.tables["Peak memory of streaming"] = memory
        if importlib.util.find_spec("moto") is not None:
            with s3_server() as port:
                copied(place / "large", port)
                record.values["stream, S3"] = [streamed("s3://rows/store", port)["rows_per_second"]]
                with delayed(port) as late:
                    record.values["stream, S3, 50 ms"] = [streamed("s3://rows/store", late)["rows_per_second"]]
        record.compare("stream, disk", "prepare, 1 process")
        for contestant in list(record.values):
            if contestant.startswith("stream, S3"):
                record.compare(contestant, "stream, disk")
        if "prepare, Ray, 2 actors" in record.values:
            record.compare("prepare, Ray, 2 actors", "prepare, 1 process")
        record.facts = {"rows": rows, "growth of the peak, MiB": round(disk["peak_mib"] - small["peak_mib"], 1)}
    return record


def write_table(path: Path, rows: int) -> None:
    """Noisy JPEG images, and a class."""
    draw = np.random.default_rng(0)
    cells = []
    for _ in range(rows):
        file = io.BytesIO()
        Image.fromarray(draw.integers(0, 255, (128, 128, 3), dtype=np.uint8)).save(file, "JPEG")
        cells.append(file.getvalue())
    kind = ["a" if row % 2 else "b" for row in range(rows)]
    pq.write_table(pa.table({"image": pa.array(cells, pa.binary()), "kind": kind}), path, row_group_size=320)


def prepared(table: Path, out: Path, rows: int, **options: Any) -> float:
    """Rows per second."""
    begun = time.perf_counter()
    done = prepare(table, out=out, recipe=RECIPE, shard_rows=320, group_rows=64, **options)
    assert done.complete
    return done.rows / (time.perf_counter() - begun)


def streamed(store: str, port: int | None = None) -> dict[str, float]:
    """What `prepared_rows_worker` measures; `port`: that of the S3 server."""
    environment = {**os.environ, **({} if port is None else s3_variables(port))}
    command = [sys.executable, "-m", "benchmarks.prepared_rows_worker", store]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"streaming {store} failed: {done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def s3_variables(port: int) -> dict[str, str]:
    """The variables with which an S3 server on this machine is found."""
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "of-a-benchmark",
        "AWS_SECRET_ACCESS_KEY": "of-a-benchmark",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@contextmanager
def s3_server() -> Iterator[int]:
    """The port of an S3 server."""
    import logging

    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        yield server.get_host_and_port()[1]
    finally:
        server.stop()


def copied(store: Path, port: int) -> None:
    """Put the files of a store into the bucket `rows`."""
    from pyarrow import fs

    address = f"http://127.0.0.1:{port}"
    options = {"endpoint_override": address.removeprefix("http://"), "scheme": "http", "region": "us-east-1"}
    names = {"access_key": "of-a-benchmark", "secret_key": "of-a-benchmark"}
    target = fs.S3FileSystem(**options, **names, allow_bucket_creation=True)
    target.create_dir("rows")
    for file in store.iterdir():
        with target.open_output_stream(f"rows/store/{file.name}") as stream:
            stream.write(file.read_bytes())


@contextmanager
def delayed(port: int) -> Iterator[int]:
    """The port of a proxy in front of `port`, which answers each request `LATENCY` seconds later."""

    class Late(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            time.sleep(LATENCY)
            behind = HTTPConnection("127.0.0.1", port)
            behind.request(self.command, self.path, headers=dict(self.headers))
            found = behind.getresponse()
            body = found.read()
            self.send_response(found.status)
            for name, value in found.getheaders():
                if name.lower() not in ("content-length", "transfer-encoding", "connection", "server", "date"):
                    self.send_header(name, value)
            length = found.getheader("Content-Length") if self.command == "HEAD" else str(len(body))
            self.send_header("Content-Length", length or "0")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)
            behind.close()

        do_GET = do_HEAD = answer  # the names of the base class

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Late)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
