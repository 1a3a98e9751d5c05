"""One process of the benchmark `prepared_rows`: streams an epoch from the store that is named, and prints its speed."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from polymodal.data.group_sampler import GroupSampler, RowKeys
from polymodal.data.table.table import open_table
from polymodal.preparation.prepared_store import PreparedStore

OPEN_GROUPS, BATCH_SIZE = 4, 64


def main(source: str) -> None:
    store = PreparedStore.open(source)
    preparation = store.preparation.load(store.preparation.recipe())
    with TemporaryDirectory() as cache:
        unread = open_table({"kind": ["a"]}, cache=Path(cache))
    prepared = store.stream(preparation, unread, OPEN_GROUPS)
    assert prepared.row_groups is not None
    sampler = GroupSampler(np.arange(len(prepared)), BATCH_SIZE, 0, prepared.row_groups, RowKeys())
    begun = time.perf_counter()
    for rows in sampler.epoch(0):
        preparation.batch(prepared, rows)
    seconds, peak = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"rows": len(prepared), "rows_per_second": len(prepared) / seconds, "peak_mib": peak}))


if __name__ == "__main__":
    main(sys.argv[1])
