"""The report of `polymodal explain --out`: contributions and scores of parts, drawn on the items, in one HTML file."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from markupsafe import Markup

from polymodal._version import __version__
from polymodal.checkpoint.model_directory import json_ready, write_json
from polymodal.core.writing import write_text
from polymodal.explanation.input_contributions import InputContributions
from polymodal.explanation.row_explanations import Explanation, Explanations
from polymodal.report.template import template

#: The files of the report.
FILES = ("explanations.json", "explanations.html")
#: Rows on the page, and bars of a row; the JSON file has all of them.
MAX_ROWS, MAX_BARS = 60, 12
#: Width and height of a drawing in pixels, and of the widest bar.
DRAWING, BAR = 288, 120


@dataclass(frozen=True)
class SignedBar:
    """A name, a number, and its bar."""

    name: str
    value: float
    bar: Markup


@dataclass(frozen=True)
class ExplainedRow:
    """One row on the page; `drawing` is the item with the scores on it, empty for columns."""

    row: int
    target: str
    predicted: float
    empty: float
    drawing: Markup
    bars: list[SignedBar]


def write_explanations(folder: Path, found: InputContributions | Explanations, table: str) -> None:
    """Write `explanations.json` and `explanations.html` into `folder`, which is created if needed. Existing files are
    replaced (`checkpoint.output_file.check_reports`)."""
    write_json(folder / FILES[0], json_ready({"table": table, **explanation_record(found)}))
    write_text(folder / FILES[1], render_explanations(found, table))


def render_explanations(found: InputContributions | Explanations, table: str) -> str:
    """The HTML text of the page."""
    if isinstance(found, InputContributions):
        rows, lead = _contribution_rows(found), "How much each input contributes"
        means = [(one.input, one.mean_absolute, one.mean, f"{one.share:.0%}") for one in found.means()]
    else:
        rows, means = [_explained_row(one) for one in found.rows[:MAX_ROWS]], []
        lead = f"Parts of {found.input}, by {found.method.replace('_', ' ')}"
    gains = found.gains if isinstance(found, Explanations) else ()
    return template("explanations.html.j2").render(
        version=__version__,
        lead=lead,
        output=found.output,
        scale=found.scale.replace("_", "-"),
        table=table,
        count_all=len(found),
        rows=rows,
        means=means,
        gains=gains,
        notes=found.notes,
    )


def explanation_record(found: InputContributions | Explanations) -> dict[str, Any]:
    """The contributions or explanations with all of their numbers, JSON-ready."""
    return contributions_record(found) if isinstance(found, InputContributions) else explanations_record(found)


def _contribution_rows(found: InputContributions) -> list[ExplainedRow]:
    return [
        ExplainedRow(
            at,
            str(found.targets[at]),
            float(found.predicted[at]),
            float(found.empty[at]),
            Markup(),
            signed_bars(found.inputs, found.values[at]),
        )
        for at in range(min(len(found), MAX_ROWS))
    ]


def _explained_row(one: Explanation) -> ExplainedRow:
    flat = one.scores.reshape(-1)
    drawing = Markup()
    if one.preview is not None:
        drawing = _drawn(one.preview, one.scores, one.labels, is_grid=one.modality == "image")
    elif one.modality == "text":
        drawing = _words(one.labels, flat)
    largest = np.argsort(-np.abs(flat), kind="stable")[: 5 if drawing else MAX_BARS]
    bars = signed_bars([one.labels[at] for at in largest], flat[largest])
    return ExplainedRow(one.row, str(one.target), one.predicted, one.empty, drawing, bars)


def signed_bars(names: Any, values: np.ndarray) -> list[SignedBar]:
    """A bar for each number; the longest is of the largest size."""
    most = max(float(np.abs(values).max(initial=0.0)), 1e-12)
    found = []
    for name, value in zip(names, values.tolist(), strict=True):
        length = BAR / 2 * abs(value) / most
        bar = Markup(
            '<svg class="bar" width="{0}" height="10" aria-hidden="true">'
            '<rect class="{1}" x="{2:.1f}" y="0" width="{3:.1f}" height="10"/>'
            '<line class="axis" x1="{4}" x2="{4}" y1="0" y2="10"/></svg>'
        ).format(BAR, _style(value), BAR / 2 - (length if value < 0 else 0), length, BAR // 2)
        found.append(SignedBar(name, value, bar))
    return found


def _style(value: float) -> str:
    return "for" if value > 0 else "against"


def _drawn(preview: PIL.Image.Image, scores: np.ndarray, labels: tuple[str, ...], *, is_grid: bool) -> Markup:
    """The image of an item under rectangles whose color is the sign and whose opacity is the size of each score."""
    cells = scores if is_grid else _strongest(scores)[None]
    rows, columns = cells.shape
    height = round(DRAWING * preview.height / preview.width)
    most = max(float(np.abs(scores).max(initial=0.0)), 1e-12)
    label = ", ".join(labels[at] for at in np.argsort(-scores.reshape(-1), kind="stable")[:3])
    parts = [
        Markup(
            '<svg class="drawn" viewBox="0 0 {0} {1}" role="img" aria-label="{2}"><image href="{3}" width="{0}" '
            'height="{1}" preserveAspectRatio="none"/>'
        ).format(DRAWING, height, f"highest: {label}", _data_url(preview))
    ]
    for (row, column), value in np.ndenumerate(cells):
        parts.append(
            Markup(
                '<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" fill-opacity="{:.2f}"/>'
            ).format(
                _style(value),
                column * DRAWING / columns,
                row * height / rows,
                DRAWING / columns,
                height / rows,
                0.75 * abs(value) / most,
            )
        )
    return Markup("").join([*parts, Markup("</svg>")])


def _strongest(scores: np.ndarray) -> np.ndarray:
    """The score of largest size of each span, over the channels."""
    if scores.ndim == 1:
        return scores
    return scores[np.arange(len(scores)), np.abs(scores).argmax(axis=1)]


def _words(labels: tuple[str, ...], scores: np.ndarray) -> Markup:
    """The text with a color for each word."""
    most = max(float(np.abs(scores).max(initial=0.0)), 1e-12)
    words = [
        Markup('<mark class="{}" style="--share: {:.2f}" title="{:+.3g}">{}</mark>').format(
            _style(score), abs(score) / most, score, label
        )
        for label, score in zip(labels, scores.tolist(), strict=True)
    ]
    return Markup('<p class="words">{}</p>').format(Markup(" ").join(words))


def _data_url(image: PIL.Image.Image) -> str:
    """The image as a PNG in a data URL, at most as wide as a drawing."""
    small = image.copy()
    small.thumbnail((DRAWING, DRAWING))
    file = io.BytesIO()
    small.convert("RGB").save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def contributions_record(found: InputContributions) -> dict[str, Any]:
    return {
        "output": found.output,
        "scale": found.scale,
        "inputs": {
            one.input: {key: value for key, value in vars(one).items() if key != "input"} for one in found.means()
        },
        "rows": [
            {
                "target": target,
                "predicted": float(predicted),
                "empty": float(empty),
                "contributions": dict(zip(found.inputs, values.tolist(), strict=True)),
            }
            for target, predicted, empty, values in zip(
                found.targets, found.predicted, found.empty, found.values, strict=True
            )
        ],
        "notes": list(found.notes),
    }


def explanations_record(found: Explanations) -> dict[str, Any]:
    return {
        "input": found.input,
        "method": found.method,
        "output": found.output,
        "scale": found.scale,
        "rows": [
            {
                "row": one.row,
                "target": one.target,
                "predicted": one.predicted,
                "empty": one.empty,
                "completeness_gap": one.completeness_gap,
                "scores": one.scores.tolist(),
                "labels": list(one.labels),
                "faithfulness": [{**vars(judged), "gain": judged.gain} for judged in one.faithfulness],
                "num_predictions": one.num_predictions,
                "seconds": one.seconds,
            }
            for one in found
        ],
        "gains": [vars(gain) for gain in found.gains],
        "notes": list(found.notes),
    }
