"""The report of `polymodal evaluate --robustness`: tables and curves in one HTML file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from polymodal._version import __version__
from polymodal.checkpoint.model_directory import write_json
from polymodal.core.formatting import metric_name
from polymodal.core.writing import write_text
from polymodal.evaluation.robustness import Robustness
from polymodal.report.charts import ChartLine, line_chart
from polymodal.report.template import template


@dataclass(frozen=True)
class OutputRobustness:
    """One output on the page."""

    name: str
    metric: str
    found: Robustness
    charts: list[Markup]


#: The files of the report.
FILES = ("robustness.json", "robustness.html")


def write_robustness(folder: Path, robustness: dict[str, Robustness], *, table: str, rows: int) -> None:
    """Write `robustness.json` and `robustness.html` into `folder`, which is created if needed. Existing files are
    replaced (`checkpoint.output_file.check_reports`)."""
    values = {name: one.model_dump(mode="json") for name, one in robustness.items()}
    write_json(folder / "robustness.json", {"table": table, "rows": rows, "outputs": values})
    page = render_robustness(robustness, table=table, rows=rows)
    write_text(folder / "robustness.html", page)


def render_robustness(robustness: dict[str, Robustness], *, table: str, rows: int) -> str:
    """The HTML text of the page."""
    outputs = [OutputRobustness(name, metric_name(one.metric), one, _charts(one)) for name, one in robustness.items()]
    return template("robustness.html.j2").render(version=__version__, outputs=outputs, table=table, rows=rows)


def _charts(found: Robustness) -> list[Markup]:
    """A curve for each input and kind of corruption, with the baseline as a reference line."""
    level = None if found.baseline is None else ("baseline", found.baseline)
    charts = []
    for name, kinds in found.corrupted.items():
        for kind, curve in kinds.items():
            title = f"{name}: {kind.replace('_', ' ')}"
            points = [(x, y) for x, y in zip(found.strengths, curve.scores, strict=True) if y is not None]
            line = ChartLine(title, points, "one")
            charts.append(
                line_chart(
                    [line],
                    title=title,
                    x_label="strength",
                    y_label=metric_name(found.metric),
                    level=level,
                    integers_only=False,
                )
            )
    return charts
