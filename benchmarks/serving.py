"""Requests per second of the service with many clients, against a route written by hand and against one batch."""

from __future__ import annotations

import asyncio
import base64
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.measure import interleaved
from benchmarks.record import Record
from benchmarks.vqa import Vqa, prepared_vqa
from polymodal.runtime.compute import ComputeConfig

CLIENTS = 32
OURS, BY_HAND, BATCH = "polymodal serve", "a route by hand", "one batch of the library"


def run(smallest: bool) -> Record:
    """Requests of one row per second, of 32 clients that each send one after the other."""
    record = Record(
        name="serving",
        title="Requests of one row, by 32 clients at once",
        method=(
            "A picture in base64 and a question in, the answer out. Each client sends its next request when it has the "
            "answer. The services are processes with one thread for torch; all clients are one other process on the "
            "same machine. By hand: a route of Starlette, on which FastAPI is built, that calls model.predict in its "
            "pool of threads. One batch: model.predict on all rows, without HTTP."
        ),
        unit="rows/s",
        larger_is_better=True,
    )
    requests, clients = (8, 4) if smallest else (1024, CLIENTS)
    latencies: dict[str, list[float]] = {OURS: [], BY_HAND: []}
    with prepared_vqa(smallest) as vqa, TemporaryDirectory() as place:
        model = vqa.model(ComputeConfig("fp32", 1))
        folder = model.save(Path(place) / "vqa")
        rows = sent_rows(vqa, requests)
        command = ["-m", "polymodal", "serve", str(folder), "--port", "0", "--preload", "--max-requests", "128"]
        by_hand = ["-m", "benchmarks.serving_reference", str(folder)]
        with service(command) as ours, service(by_hand) as reference:
            addresses = {OURS: ours, BY_HAND: reference}

            def load(name: str) -> float:
                start = time.perf_counter()
                latencies[name] = asyncio.run(send_all(addresses[name], rows, clients))
                return len(rows) / (time.perf_counter() - start)

            def batch() -> float:
                start = time.perf_counter()
                model.predict(rows)
                return len(rows) / (time.perf_counter() - start)

            contestants = {OURS: lambda: load(OURS), BY_HAND: lambda: load(BY_HAND), BATCH: batch}
            interleaved(record, contestants, 1 if smallest else 5)
    record.compare(OURS, BY_HAND, target=3)
    record.compare(OURS, BATCH)
    for name, seconds in latencies.items():
        ordered = sorted(seconds)
        record.facts[f"{name}: median ms of a request"] = round(statistics.median(ordered) * 1e3, 1)
        record.facts[f"{name}: 99th percentile, ms"] = round(ordered[int(len(ordered) * 0.99)] * 1e3, 1)
    return record


def sent_rows(vqa: Vqa, count: int) -> list[dict[str, str]]:
    """Rows of the test table with pictures as `data:` addresses."""
    table = vqa.tables["test"].drop_columns("answer")
    rows = table.slice(0, min(count, len(table))).to_pylist()
    for row in rows:
        data = base64.b64encode((vqa.root / row["image"]).read_bytes()).decode()
        row["image"] = f"data:image/png;base64,{data}"
    return [rows[number % len(rows)] for number in range(count)]


@contextmanager
def service(words: list[str]) -> Iterator[str]:
    """The address of a service in a process of its own, which prints it as its last word."""
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline().split()
        if not line:
            raise RuntimeError(f"{' '.join(words)} did not start")
        yield line[-1]
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


async def send_all(address: str, rows: list[dict[str, str]], clients: int) -> list[float]:
    """The seconds of every request of one row."""
    host, _, port = address.removeprefix("http://").partition(":")
    waiting = iter([json.dumps({"rows": [row]}).encode() for row in rows])
    seconds: list[float] = []

    async def client() -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        for body in waiting:
            start = time.perf_counter()
            head = f"POST /v1/predict HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
            writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            if not answer.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(answer.decode())
            (length,) = (line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.partition(b":")[2]))
            seconds.append(time.perf_counter() - start)
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(client() for _ in range(clients)))
    return seconds
