"""Tables of scores on the terminal, for `fit`, `evaluate` and all other commands that score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table

from polymodal.core.formatting import count_noun, format_interval, format_score, split_name, truncate
from polymodal.core.terminal import plain_table, plain_text
from polymodal.evaluation.data_sets import DataSetScores
from polymodal.model.model import Model
from polymodal.report.model_summary import ScoreRow, count_sentences, reported_split, rows_of, score_rows, scored_names

#: Metrics of each output, and single inputs: the best ones. With more than `MANY` outputs only the leading metric.
MAX_METRICS, MAX_UNIMODAL, MANY = 4, 6, 8


def model_score_table(model: Model) -> RenderableType:
    """The leading scores of a trained model on its test rows, or on its validation rows if it has no test rows.

    First come the outputs, then the objectives, then the retrieval between aligned inputs.
    """
    part = reported_split(model)
    names = scored_names(model, part)
    most = MAX_METRICS if len(names) <= MANY else 1
    return scores_table(
        {name: score_rows(model, part, name)[:most] for name in names},
        _title(model, part),
        kind=f"{split_name(part)} row",
        data_sets=model.run.data_sets.get(part, {}),
        named=not model.recipe.outputs,
    )


def scores_table(
    scores: Mapping[str, Sequence[ScoreRow]],
    title: str = "",
    *,
    kind: str = "row",
    data_sets: Mapping[str, Mapping[str, DataSetScores]] | None = None,
    named: bool = False,
) -> RenderableType:
    """Score, interval and baseline of each metric, by output.

    Below the first metric of an output stand the scores of its single inputs, the best first, and those of each data
    set. Below the table stand the numbers of scored rows, if there is no title or rows were left out.

    kind: what the rows are
    data_sets: scores by output and data set
    named: show the name of an output even if it is the only one
    """
    several = named or len(scores) > 1
    table = plain_table(title)
    if several:
        table.add_column("output", overflow="fold")
    table.add_column("metric", overflow="fold")
    for heading in ("score", "interval", "baseline"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, rows in scores.items():
        for position, row in enumerate(rows):
            lead = position == 0
            first = [plain_text(truncate(name, 30) if lead else "")] if several else []
            table.add_row(
                *first,
                plain_text(row.name + ("" if row.greater_is_better else " (lower is better)")),
                plain_text(format_score(row.value), "bold" if lead else ""),
                plain_text(format_interval(row.low, row.high)),
                plain_text(format_score(row.baseline)),
            )
            if lead:
                _add_details(table, row, (data_sets or {}).get(name, {}), several)
        if any(len(rows) > 1 for rows in scores.values()):
            table.add_section()
    counts = {name: rows[0].counts for name, rows in scores.items() if rows}
    if not counts or (title and all(one.is_plain for one in counts.values())):
        return table
    return Group(table, *map(plain_text, count_sentences(counts, kind)))


def _title(model: Model, part: str) -> str:
    """`Scores on 40 test rows`: the scored rows, if they are the same for every output."""
    scores = [score_rows(model, part, name)[:1] for name in scored_names(model, part)]
    scored = {row.counts.rows for rows in scores for row in rows}
    number = scored.pop() if len(scored) == 1 else rows_of(model, part)
    return f"Scores on {count_noun(number, split_name(part) + ' row')}" if part else "No scores"


def _add_details(table: Table, row: ScoreRow, data_sets: Mapping[str, DataSetScores], several: bool) -> None:
    """Rows for the single inputs and for the data sets; one data set has no row of its own."""
    empty = [plain_text("")] if several else []
    for name, value in _best_unimodal(row):
        table.add_row(*empty, plain_text(f"  {truncate(name, 30)} only"), plain_text(format_score(value)), style="dim")
    for name, found in data_sets.items():
        score = found.scores[row.metric]
        cells = [plain_text(format_score(score.value)), plain_text(format_interval(score.low, score.high))]
        table.add_row(
            *empty, plain_text(f"  {truncate(name, 30)}"), *cells, plain_text(format_score(score.baseline)), style="dim"
        )


def _best_unimodal(row: ScoreRow) -> list[tuple[str, float | None]]:
    """The inputs with the best scores of their own, the best first; undefined scores last."""
    sign = -1 if row.greater_is_better else 1
    ranked = sorted(row.unimodal.items(), key=lambda pair: (pair[1] is None, sign * (pair[1] or 0.0)))
    return ranked[:MAX_UNIMODAL]
