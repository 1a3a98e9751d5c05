"""`python -m benchmarks [name ...]`: run benchmarks, print their ratios and write their records."""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path

from benchmarks import BENCHMARKS
from benchmarks.record import RECORDS, run_study


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"one of {', '.join(BENCHMARKS)}; default: all")
    parser.add_argument(
        "--smallest", action="store_true", help="the smallest size, only to test that the benchmark runs"
    )
    parser.add_argument("--records", type=Path, default=RECORDS, help="folder of the records")
    chosen = parser.parse_args(arguments)
    unknown = sorted(set(chosen.names) - set(BENCHMARKS))
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]!r}; choose from {', '.join(BENCHMARKS)}")
    for name in chosen.names or BENCHMARKS:
        run = import_module(f"benchmarks.{name}").run
        run_study(run, chosen.smallest, smallest=chosen.smallest, folder=chosen.records)


if __name__ == "__main__":
    main()
