"""The first page of results: one table for each topic, with a line or two for each record."""

from __future__ import annotations

from benchmarks.record import Ratio, Record
from benchmarks.report_topics import SUMMARIZED, SUMMARIZED_RATIOS, TOPICS

HEAD = """# Results

Each line is a measurement and a reference that did the same work on the same machine, and leads to the method, all
contestants, the data and the machine. Results that speak against Polymodal are listed too.

A ratio above 1 means that Polymodal does better than the reference. The range beside it is the smallest and the
largest ratio within one round (of all pairs, where one side ran more often). Only ratios can be compared between
machines: absolute speed depends on the machine and on its load. Some targets were set before measuring; where a ratio
misses its target, the page says so.

This page is written by `python -m benchmarks.report` from the run records in `benchmarks/records`. Do not edit it.
`python -m benchmarks` measures again and replaces the records.
"""


def summary(records: list[Record]) -> str:
    """The page as Markdown."""
    lines = [HEAD]
    written = []
    for topic in TOPICS:
        rows = [row for name in topic.records for record in records if record.name == name for row in _rows(record)]
        if not rows:
            continue
        written.append(f"results/{topic.slug}")
        lines += [f"## {topic.title}", ""]
        lines += ["| measurement | Polymodal | reference | ratio |", "|---|---|---|---|"]
        lines += [f"| {' | '.join(row)} |" for row in rows]
        lines += [""]
    return "\n".join([*lines, "```{toctree}", ":hidden:", "", *written, "```", ""])


def anchor(record: Record) -> str:
    return "result-" + record.name.replace("_", "-")


def number(value: float) -> str:
    """Three significant digits, without an exponent."""
    return f"{float(f'{value:.3g}'):,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _rows(record: Record) -> list[list[str]]:
    """The lines of a record. Only the first names it."""
    if record.ratios:
        shown = [record.ratios[position] for position in SUMMARIZED_RATIOS.get(record.name, (0,))]
        rows = [[_value(record, ratio.ours), _value(record, ratio.reference), _ratio(ratio)] for ratio in shown]
    else:
        pairs = SUMMARIZED.get(record.name, ((0, None),))
        rows = [[_at(record, ours), _at(record, reference), ""] for ours, reference in pairs]
    return [["" if position else _link(record), *row] for position, row in enumerate(rows)]


def _link(record: Record) -> str:
    slug = next(topic.slug for topic in TOPICS if record.name in topic.records)
    better = "" if record.larger_is_better else "; lower is better"
    return f"[{record.title}](results/{slug}.md#{anchor(record)}) ({record.unit}{better})"


def _at(record: Record, position: int | None) -> str:
    """The contestant at a position of the record."""
    return "" if position is None else _value(record, list(record.values)[position])


def _value(record: Record, contestant: str) -> str:
    return f"**{number(record.median(contestant))}** {contestant}"


def _ratio(ratio: Ratio) -> str:
    spread = f"({ratio.low:.2f} to {ratio.high:.2f})".replace(" ", "\N{NO-BREAK SPACE}")
    return f"**{ratio.value:.2f}** {spread}"
