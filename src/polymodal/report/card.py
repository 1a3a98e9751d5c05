"""The model card: a plain README in the model directory."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from polymodal._version import __version__
from polymodal.core import formatting
from polymodal.core.writing import write_text
from polymodal.model.model import Model
from polymodal.report.model_summary import (
    reported_split,
    run_summary,
    score_rows,
    scored_names,
    shared_items,
    shared_sentence,
    title,
    unimodal_method,
    verdict,
)

MAX_CLASSES = 20
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~$&!])")
_EXAMPLES: dict[str, Any] = {
    "text": "some text",
    "image": "image.jpg",
    "audio": "audio.wav",
    "video": "video.mp4",
    "time_series": [0.1, 0.2, 0.4, 0.3],
    "number": 1.5,
    "category": "label",
    "datetime": "2026-03-02",
}


class RawMarkdown(str):
    """Text inside a code block, which is not escaped."""


def write_card(folder: Path, model: Model) -> None:
    """Write `README.md` into `folder`: what the model does, its scores, and its limits."""
    write_text(folder / "README.md", render_card(model))


def render_card(model: Model) -> str:
    """The Markdown text of the card. Names and reasons from the data are escaped."""
    part = reported_split(model)
    names = scored_names(model, part)
    return _template().render(
        version=__version__,
        title=title(model),
        part=part,
        model=model,
        tasks=model.preparation.tasks,
        shown={name: modality.describe() for name, modality in model.preparation.modalities.items()},
        most_classes=MAX_CLASSES,
        facts=run_summary(model),
        scores={name: score_rows(model, part, name) for name in names},
        verdicts={name: verdict(model, part, name) for name in names},
        confidence=f"{model.recipe.evaluation.confidence_level:.0%}",
        unimodal_method=unimodal_method(model),
        parts=model.run.splits,
        fingerprints=model.run.fingerprints,
        shared=[(one, shared_sentence(one)) for one in shared_items(model)],
        cell_errors=model.run.cell_errors,
        notices=(*model.run.data_notes, *model.run.notices),
        row=RawMarkdown(repr(_example(model))),
    )


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("polymodal", "report"),
        finalize=markdown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "score": formatting.format_score,
        "split_name": formatting.split_name,
        "join_words": formatting.join_words,
    }
    environment.filters |= {"truncated": formatting.truncate}
    environment.globals |= {"interval": formatting.format_interval, "count": formatting.count_noun}
    environment.globals["count_sentence"] = lambda counts, split: counts.sentence(f"{formatting.split_name(split)} row")
    return environment.get_template("card.md.j2")


def markdown(value: Any) -> Any:
    """`value` as Markdown text in one line, with all special characters escaped."""
    if isinstance(value, RawMarkdown) or not isinstance(value, str):
        return value
    return _SPECIAL.sub(r"\\\1", formatting.escape_controls(" ".join(value.split())))


def _example(model: Model) -> dict[str, Any]:
    """A row for `predict` with a placeholder in each cell."""
    row: dict[str, Any] = {}
    for spec in model.recipe.inputs.values():
        kind = spec.modality.name if spec.modality is not None else ""
        row |= dict.fromkeys(spec.columns, _EXAMPLES.get(kind, "..."))
    for task in model.preparation.tasks.values():
        for column in task.prompt_columns:
            row.setdefault(column, _EXAMPLES["text"])
    return row
