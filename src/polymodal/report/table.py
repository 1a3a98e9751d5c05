"""The small table of scores that a run ends with on the terminal."""

from __future__ import annotations

from rich import box
from rich.table import Table
from rich.text import Text

from polymodal.core.formatting import count, cut, interval, part_name, score
from polymodal.evaluation.data_sets import DataSetScores
from polymodal.model.model import Model
from polymodal.report.facts import ScoreRow, rows_of, score_rows, scored, shown_part

#: Metrics of each output, and inputs shown alone: the best ones. Of more than `MANY` outputs only the leading one.
MOST_METRICS, MOST_ALONE, MANY = 4, 6, 8


def score_table(model: Model) -> Table:
    """The leading metrics of each output (then of each objective, and of each aligned input by which another is found)
    on the test part (the validation part where there is none): score,
    interval and the best constant answer, and under the first metric the scores of each input alone and of each data
    set."""
    part = shown_part(model)
    names = scored(model, part)
    several = len(names) > 1 or not model.recipe.outputs
    most = MOST_METRICS if len(names) <= MANY else 1
    title = f"Scores on {count(rows_of(model, part), part_name(part) + ' row')}" if part else "No scores"
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    if several:
        table.add_column("output", overflow="fold")
    table.add_column("metric", overflow="fold")
    for heading in ("score", "interval", "constant" if model.recipe.outputs else "chance"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name in names:
        for place, row in enumerate(score_rows(model, part, name)[:most]):
            lead = place == 0
            cells = [
                Text(row.name + ("" if row.greater_is_better else " (less is better)")),
                Text(score(row.value), style="bold" if lead else ""),
                Text(interval(row.low, row.high)),
                Text(score(row.majority)),
            ]
            table.add_row(*([Text(cut(name, 30) if lead else "")] if several else []), *cells)
            for single, value in _alone(row) if lead else []:
                cells = [Text(f"  {cut(single, 30)} alone"), Text(score(value))]
                table.add_row(*([Text("")] if several else []), *cells, style="dim")
            for data_set, found in _by_data_set(model, part, name) if lead else []:
                one = found.scores[row.metric]
                cells = [Text(f"  {cut(data_set, 30)}"), Text(score(one.value))]
                cells += [Text(interval(one.low, one.high)), Text(score(one.majority))]
                table.add_row(*([Text("")] if several else []), *cells, style="dim")
        if most > 1:
            table.add_section()
    return table


def _by_data_set(model: Model, part: str, output: str) -> list[tuple[str, DataSetScores]]:
    """The data sets that have the target of an output, where there are several; see `evaluation.data_sets`."""
    return list(model.run.data_sets.get(part, {}).get(output, {}).items())


def _alone(row: ScoreRow) -> list[tuple[str, float | None]]:
    """The inputs that score best by themselves, the best first; undefined scores last."""
    sign = -1 if row.greater_is_better else 1
    ranked = sorted(row.alone.items(), key=lambda pair: (pair[1] is None, sign * (pair[1] or 0.0)))
    return ranked[:MOST_ALONE]
