"""The report of a run: one HTML file that works offline and without scripts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from polymodal._version import __version__
from polymodal.core.writing import write_text
from polymodal.data.table.cell_errors import CellError
from polymodal.experiments.experiment import Experiment
from polymodal.experiments.score import SplitScores
from polymodal.modalities.base import Modality
from polymodal.model.leaderboard import leaderboard, selection_sentence
from polymodal.model.model import Model
from polymodal.report.leaderboard import leaderboard_cells
from polymodal.report.model_summary import (
    reported_split,
    run_summary,
    shared_items,
    shared_sentence,
    title,
    unimodal_method,
)
from polymodal.report.objective_section import objective_sections
from polymodal.report.output_section import output_section
from polymodal.report.template import template

MAX_CELL_ERRORS = 50
#: Wrong rows shown for one output, and thumbnails in the whole report, to limit its size.
MAX_EXAMPLES, MAX_THUMBNAILS = 24, 72


@dataclass(frozen=True)
class SplitSummary:
    """One split. `targets`: number of rows with a target, by output."""

    name: str
    table: str
    rows: int
    targets: dict[str, int]


def write_report(folder: Path, experiment: Experiment, model: Model, scores: Mapping[str, SplitScores]) -> None:
    """Write `report.html` into `folder`; the prepared items of the experiment must still exist."""
    page = render_report(experiment, model, scores)
    write_text(folder / "report.html", page)


def render_report(experiment: Experiment, model: Model, scores: Mapping[str, SplitScores]) -> str:
    """The HTML text of the report."""
    part = reported_split(model)
    shared = shared_items(model)
    examples = _examples_each(experiment)
    cell_errors: list[CellError] = experiment.cell_errors.errors
    return template("report.html.j2").render(
        version=__version__,
        title=title(model),
        part=part,
        outputs=[output_section(model, scores[part], name, part, examples) for name in experiment.recipe.outputs],
        learned=objective_sections(model, part) if part else [],
        roles=model.run.roles,
        inputs=model.run.inputs,
        sources=_sources(model),
        parts=_parts(experiment),
        fingerprints=model.run.fingerprints,
        leaks=[shared_sentence(one) for one in shared if one.touches_test],
        shared=shared,
        cell_errors=cell_errors[:MAX_CELL_ERRORS],
        cell_error_count=len(cell_errors),
        cell_error_columns=experiment.cell_errors.counts(),
        notices=(*model.run.data_notes, *model.run.notices),
        unimodal_method=unimodal_method(model),
        confidence=model.recipe.evaluation.confidence_level if model.recipe.evaluation.bootstrap_samples else 0,
        members={
            name: (selection_sentence(model.run, name), leaderboard_cells(leaderboard(model.run, name)))
            for name in experiment.recipe.outputs
            if model.run.members
        },
        facts=run_summary(model),
        recipe=model.recipe.to_yaml(),
    )


def _sources(model: Model) -> list[str]:
    """The inputs, and the columns of prompts."""
    read = [column for task in model.preparation.tasks.values() for column in task.prompt_columns]
    return list(dict.fromkeys([*model.run.inputs, *read]))


def _examples_each(experiment: Experiment) -> int:
    """The number of wrong rows for each output, so that all thumbnails together stay within their limit."""
    drawn = [type(one).preview is not Modality.preview for one in experiment.preparation.modalities.values()]
    thumbnails = len(experiment.recipe.outputs) * sum(drawn)
    return min(MAX_EXAMPLES, max(2, MAX_THUMBNAILS // thumbnails)) if thumbnails else MAX_EXAMPLES


def _parts(experiment: Experiment) -> list[SplitSummary]:
    return [
        SplitSummary(
            name,
            split.table.name,
            len(split),
            {
                output: int(known[split.rows].sum())
                for output, (_, known) in experiment.splits[name].table.targets.items()
            },
        )
        for name, split in experiment.tables.items()
    ]
