"""`python -m benchmarks.report`: write the results pages of the documentation from the run records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.record import RECORDS, Ratio, Record, read_records
from benchmarks.report_summary import anchor, number, summary
from benchmarks.report_topics import TOPICS, Topic

FOLDER = Path(__file__).parents[1] / "docs" / "explanation"
HEAD = """# {title}

This page is written by `python -m benchmarks.report` from the run records in `benchmarks/records`. Do not edit it.
How to read the tables: [Results](../results.md).
"""


def pages(records: list[Record]) -> dict[str, str]:
    """The text of each page, by its path below `docs/explanation`. A topic without records has no page."""
    texts = {}
    for topic in TOPICS:
        of_topic = [record for name in topic.records for record in records if record.name == name]
        if of_topic:
            texts[f"results/{topic.slug}.md"] = _page(topic, of_topic)
    return {"results.md": summary(records), **texts}


def _page(topic: Topic, records: list[Record]) -> str:
    return "\n".join([HEAD.format(title=topic.title), *(_section(record) for record in records)])


def _section(record: Record) -> str:
    lines = [f"({anchor(record)})=", f"## {record.title}", "", record.method, ""]
    lines += [f"| contestant | median, {record.unit} | range | measurements |", "|---|---:|---:|---:|"]
    for name, values in record.values.items():
        spread = f"{number(min(values))} to {number(max(values))}" if len(values) > 1 else ""
        lines.append(f"| {name} | {number(record.median(name))} | {spread} | {len(values)} |")
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
    return number(value) if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


if __name__ == "__main__":
    measured = read_records(RECORDS)
    (FOLDER / "results").mkdir(parents=True, exist_ok=True)
    for path, text in pages(measured).items():
        (FOLDER / path).write_text(text, encoding="utf-8")
        print(f"wrote {path}")
    print(f"{len(measured)} records")
