"""A process of the engine `local`: `python -m polymodal.engines.worker FOLDER --parent N --worker N`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from polymodal.core.errors import PolymodalError
from polymodal.engines.local import COMPLETE, JOB, claim, complete
from polymodal.engines.shards import Shard, WorkSpec


def main() -> None:
    """Run the shards that no other process has claimed, and end when there are none or the parent is gone."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--worker", type=int, required=True)
    given = parser.parse_args()
    job = json.loads((given.folder / JOB).read_text(encoding="utf-8"))
    work = WorkSpec(**job["spec"]).open()
    for values in job["shards"]:
        if os.getppid() != given.parent:
            return
        shard = Shard(**values)
        if claim(given.folder, shard.number):
            work.run(shard)
            complete(given.folder, shard.number)
            print(f"{COMPLETE}{shard.number}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except PolymodalError as error:
        sys.exit(f"{type(error).__name__}: {error}")
