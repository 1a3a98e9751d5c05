"""`python -m benchmarks.report`: write docs/results.md from the run records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.record import RECORDS, Ratio, Record, read_records

PAGE = Path(__file__).parents[1] / "docs" / "results.md"
HEAD = """# Measured results

This page is written by `python -m benchmarks.report` from the run records in `benchmarks/records`; do not edit it.
`python -m benchmarks` measures again and replaces the records.

Contestants of one table ran in turn on one machine, so ratios can be read; absolute figures depend on the
machine and on what else it was doing. A ratio above 1 means that Polymodal does better than the reference. The
range beside it is the smallest and the largest ratio within one round (of all pairs where one side ran more
often). A target was set before measuring; where a ratio misses it, the table says so.
"""


def page(records: list[Record]) -> str:
    """The page as Markdown."""
    return "\n".join([HEAD, *(_section(record) for record in records)])


def _section(record: Record) -> str:
    lines = [f"## {record.title}", "", record.method, ""]
    lines += [f"| contestant | median, {record.unit} | range | measurements |", "|---|---:|---:|---:|"]
    for name, values in record.values.items():
        spread = f"{_number(min(values))} to {_number(max(values))}" if len(values) > 1 else ""
        lines.append(f"| {name} | {_number(record.median(name))} | {spread} | {len(values)} |")
    if record.ratios:
        lines += ["", "| Polymodal | reference | ratio | range | target |", "|---|---|---:|---:|---:|"]
        lines += [_ratio(ratio) for ratio in record.ratios]
    lines += ["", *(f"- {name}: {_fact(value)}" for name, value in record.facts.items())]
    return "\n".join([*lines, "", _machine(record), ""])


def _ratio(ratio: Ratio) -> str:
    target = "" if ratio.target is None else f"{ratio.target:g}, {'met' if ratio.value >= ratio.target else 'missed'}"
    spread = f"{ratio.low:.2f} to {ratio.high:.2f}"
    return f"| {ratio.ours} | {ratio.reference} | **{ratio.value:.2f}** | {spread} | {target} |"


def _machine(record: Record) -> str:
    facts = record.machine
    flags = f" ({', '.join(facts['flags'])})" if facts["flags"] else ""
    busy = "" if record.load is None else f" Load average before the run: {record.load}."
    if record.repeated or record.disturbed:
        busy += (
            f" Other programs ran: {record.repeated} rounds were repeated, {record.disturbed} count although disturbed."
        )
    small = " **Smallest size: proves that the benchmark works, nothing else.**" if record.smallest else ""
    return (
        f"*{record.date}; {facts['processor']}{flags}, {facts['cores']} cores, {facts['memory_gib']} GiB, "
        f"{facts['system']}; Python {facts['python']}, torch {facts['torch']}.{busy}*{small}"
    )


def _fact(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_fact(one)}" for name, one in value.items())
    if isinstance(value, list):
        return ", ".join(_fact(one) for one in value)
    return _number(value) if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _number(value: float) -> str:
    """Three significant digits, without an exponent."""
    return f"{float(f'{value:.3g}'):,.0f}" if abs(value) >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(read_records(RECORDS)))
    print(f"wrote {PAGE.name} from {len(read_records(RECORDS))} records")
