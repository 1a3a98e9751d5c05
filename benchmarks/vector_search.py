"""Search over a million vectors: recall, latency, and the cost of an index.

python -m benchmarks.vector_search FOLDER     # FOLDER: for the index, about 2 GB
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.record import Record, run_study
from polymodal.applications.search import HNSWOptions, Index

ROWS, ADDED, QUERIES, SIZE, COUNT = 1_000_000, 10_000, 1_000, 128, 10
CLUSTERS, SUBSPACE = 1_000, 16
#: Connectivity, ef_construction and ef_search, compared on fewer rows to choose the defaults.
SWEEP_ROWS, SWEEP = 100_000, ((8, 64), (16, 64), (16, 128), (32, 128))
SWEEP_SEARCH = (32, 64, 128, 256)
EXACT_TIMED, BATCH = 50, 100


def clustered(rows: int, seed: int) -> np.ndarray:
    """`[rows, SIZE]` float32: clusters around random centers, each spread over a random subspace of `SUBSPACE`
    directions, with noise in all directions. The clusters are the same for every seed."""
    fixed = np.random.default_rng(0)
    middle = fixed.standard_normal((CLUSTERS, SIZE)).astype(np.float32)
    spread = fixed.standard_normal((CLUSTERS, SUBSPACE, SIZE)).astype(np.float32) / np.sqrt(SUBSPACE)
    rng = np.random.default_rng([1, seed])
    cluster = rng.integers(0, CLUSTERS, rows)
    found = middle[cluster] + 0.1 * rng.standard_normal((rows, SIZE), np.float32)
    within = 0.7 * rng.standard_normal((rows, SUBSPACE), np.float32)
    for one in range(CLUSTERS):
        chosen = np.flatnonzero(cluster == one)
        found[chosen] += within[chosen] @ spread[one]
    return found


def timed(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def latencies(index: Index, batches: np.ndarray, exact: bool = False) -> list[float]:
    """Milliseconds per query in each of `batches [batches, queries, SIZE]`."""
    return [1e3 * timed(partial(index.search, one, COUNT, exact=exact)) / len(one) for one in batches]


def sweep(
    folder: Path, vectors: np.ndarray, queries: np.ndarray, settings: Iterable[tuple[int, int]]
) -> dict[str, str]:
    """Recall, time per query and time to build, by the settings of the graph."""
    found = {}
    for connectivity, ef_construction in settings:
        began = time.perf_counter()
        index = Index.build(
            folder,
            vectors,
            method="approximate",
            graph=HNSWOptions(connectivity=connectivity, ef_construction=ef_construction),
            overwrite=True,
        )
        built = time.perf_counter() - began
        for ef_search in SWEEP_SEARCH:
            assert index.manifest.graph is not None
            index.manifest.graph.ef_search = ef_search
            index = Index(folder, index.manifest)
            index.search(queries[:1])
            took = float(np.median(latencies(index, queries[:200, None])))
            name = f"connectivity {connectivity}, ef {ef_construction} / {ef_search}"
            recall = index.recall(queries, top_k=COUNT)
            found[name] = f"recall {recall:.4f}, {took:.2f} ms per query, built in {built:.1f} s"
    return found


def memory(folder: Path, mode: str) -> dict[str, float]:
    """MiB of a new process that opened the index and ran `QUERIES` queries: anonymous, and of mapped files."""
    command = [sys.executable, "-m", "benchmarks.vector_search", "--memory", mode, str(folder)]
    out = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    own, mapped = out.stdout.split()
    return {"anonymous": float(own), "mapped files": float(mapped)}


def print_memory(mode: str, folder: Path) -> None:
    """Print the growth of resident memory in this process, in MiB: anonymous, mapped files."""
    from polymodal.applications.search.hnsw_graph import HNSWGraph

    torch.set_num_threads(1)
    queries = np.load(folder.with_name("queries.npy"))
    Index.open(folder.with_name("small")).search(queries[:1])
    before = resident()
    index = Index.open(folder)
    loaded = None
    if mode == "loaded":
        assert index.manifest.graph is not None
        graph = HNSWGraph.open(folder, SIZE, index.manifest.graph, change=True)
        loaded = graph, [np.array(part) for part in index._storage.rows.vectors]
    elif mode == "mapped":
        for query in queries:
            index.search(query, COUNT)
    after = resident()
    print(*(f"{(now - then) / 1024:.1f}" for now, then in zip(after, before, strict=True)))
    del loaded


def resident() -> tuple[int, int]:
    """KiB of resident memory: anonymous, and of mapped files."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return int(lines["RssAnon"].split()[0]), int(lines["RssFile"].split()[0])


def measure(folder: Path) -> Record:
    """Build an index, search one by one and in batches, add rows, delete rows, and search again."""
    folder.mkdir(parents=True, exist_ok=True)
    record = Record(
        name="vector_search",
        title="Search over 1,000,000 vectors of 128 numbers: exact and approximate",
        method=f"{ROWS:,} vectors in {CLUSTERS:,} clusters, each spread over {SUBSPACE} directions, with noise in all; "
        f"{QUERIES:,} new queries from the same clusters, the {COUNT} nearest rows. Similarities in float32, the graph "
        "with its default settings; files in the page cache. Search with one thread, building and adding with two.",
        unit="milliseconds per query",
        larger_is_better=False,
    )
    queries, facts = clustered(QUERIES, seed=1), record.facts
    np.save(folder / "queries.npy", queries)
    torch.set_num_threads(2)
    Index.build(folder / "small", queries, method="exact", overwrite=True)
    vectors = clustered(ROWS, seed=3)
    began = time.perf_counter()
    index = Index.build(folder / "index", vectors, method="approximate", overwrite=True)
    built = time.perf_counter() - began
    facts["seconds to build"] = built
    facts["MiB on disk"] = {
        name: sum(path.stat().st_size for path in index.folder.glob(pattern)) / 2**20
        for name, pattern in {"vectors": "*.vectors.npy", "graph": "*.usearch", "ids": "*.ids.npy"}.items()
    }
    torch.set_num_threads(1)
    facts["recall@10"] = index.recall(queries, top_k=COUNT)
    facts["seconds to open"] = timed(lambda: Index.open(index.folder))
    index.search(queries[0], COUNT)
    for name, exact, num_queries in (("approximate", False, QUERIES), ("exact", True, EXACT_TIMED)):
        times = latencies(index, queries[:num_queries, None], exact)
        record.values[f"{name}, one query"] = times[:: max(1, num_queries // 100)]
        facts[f"{name}, one query, ms: median, 95 %"] = [float(np.percentile(times, percent)) for percent in (50, 95)]
        batches = queries.reshape(-1, BATCH, SIZE)
        times = latencies(index, batches[:5] if exact else batches, exact)
        record.values[f"{name}, batch of {BATCH}"] = times
        facts[f"{name}, batch, ms per query: median, 95 %"] = [
            float(np.percentile(times, percent)) for percent in (50, 95)
        ]
    record.compare("approximate, one query", "exact, one query")
    record.compare(f"approximate, batch of {BATCH}", f"exact, batch of {BATCH}")
    facts["MiB of memory, opened"] = memory(index.folder, "opened")
    facts["MiB of memory, mapped, after all queries"] = memory(index.folder, "mapped")
    facts["MiB of memory, loaded"] = memory(index.folder, "loaded")

    torch.set_num_threads(2)
    more = clustered(ADDED, seed=4)
    facts["seconds to add 1,000 rows (outside the graph)"] = timed(lambda: index.add(more[:1_000]))
    facts[f"seconds to add {ADDED:,} rows (into the graph)"] = timed(lambda: index.add(more))
    facts["adding, fraction of the time to build"] = facts[f"seconds to add {ADDED:,} rows (into the graph)"] / built
    torch.set_num_threads(1)
    facts["recall@10 after adding"] = index.recall(queries, top_k=COUNT)
    facts["recall@10 of the added rows' own neighbors"] = index.recall(more[:200], top_k=COUNT)
    facts["seconds to delete 10,000 rows"] = timed(lambda: index.delete(np.arange(0, ROWS, ROWS // 10_000)))
    facts["recall@10 after deleting"] = index.recall(queries, top_k=COUNT)
    torch.set_num_threads(2)
    sample = clustered(SWEEP_ROWS, seed=2)
    facts[f"settings of the graph, {SWEEP_ROWS:,} rows"] = sweep(folder / "sweep", sample, queries, SWEEP)
    rng = np.random.default_rng(5)
    facts[f"random directions, {SWEEP_ROWS:,} rows, the hardest case"] = sweep(
        folder / "sweep",
        rng.standard_normal((SWEEP_ROWS, SIZE), np.float32),
        rng.standard_normal((200, SIZE), np.float32),
        [(16, 128)],
    )
    return record


if __name__ == "__main__":
    if sys.argv[1] == "--memory":
        print_memory(sys.argv[2], Path(sys.argv[3]))
    else:
        run_study(measure, Path(sys.argv[1]))
