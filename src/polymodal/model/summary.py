"""The summary of a model: what it reads and predicts, how it was trained, and its scores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from polymodal.core.formatting import (
    count_noun,
    format_duration,
    format_interval,
    format_score,
    metric_name,
    split_name,
)
from polymodal.core.html_table import html_table
from polymodal.model.leaderboard import leaderboard
from polymodal.model.run_record import RunRecord
from polymodal.recipe.recipe import Recipe


@dataclass(frozen=True)
class ModelSummary:
    """Facts about a model; `print` shows them as lines, and a notebook as a table.

    facts: pairs of a name (`input`, `output`, `member` ...) and a text, in the order in which they are shown; a name
        may occur several times
    """

    facts: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        width = max(len(name) for name, _ in self.facts)
        return "\n".join(f"{name.ljust(width)}  {text}" for name, text in self.facts)

    def _repr_html_(self) -> str:
        return html_table(self.facts)


def summarize(recipe: Recipe, run: RunRecord, metrics: dict[str, Any], *, has_network: bool) -> ModelSummary:
    """The summary of a model.

    metrics: scores by split, output and metric
    has_network: whether a network is one of its members, or the model
    """
    left_out = (("left out", f"{role.column}: {role.reason}") for role in run.roles if role.is_left_out)
    return ModelSummary((*_parts(recipe, has_network), *left_out, *_training(recipe, run), *_scores(metrics)))


def _parts(recipe: Recipe, has_network: bool) -> Iterator[tuple[str, str]]:
    """The inputs, the fusion and the outputs."""
    for name, spec in recipe.inputs.items():
        kind = spec.modality.name if spec.modality else "unknown"
        encoder = f", encoder {spec.encoder.name}" if spec.encoder is not None and has_network else ""
        yield "input", f"{name}: {kind} ({', '.join(spec.columns)}){encoder}"
    if has_network and recipe.fusion is not None:
        yield "fusion", recipe.fusion.name
    for name, target in recipe.outputs.items():
        yield "output", f"{name}: {target.task.name if target.task else 'unknown'}"


def _training(recipe: Recipe, run: RunRecord) -> Iterator[tuple[str, str]]:
    """The members with a weight, the training rows, and the parameters of the networks."""
    for name in recipe.outputs:
        for row in leaderboard(run, name):
            if row.weight:
                yield "member", f"{row.member}: {row.weight:.0%} of {name}"
    if "train" in run.splits:
        rows, seconds = count_noun(run.splits["train"].rows, "row"), format_duration(run.seconds.training)
        yield "training", f"{rows} in {seconds}"
    if run.parameters.total:
        yield "parameters", f"{run.parameters.total:,}, of which {run.parameters.trainable:,} were trained"


def _scores(metrics: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The first metric of each output, by split."""
    for split, outputs in metrics.items():
        for output, scores in outputs.items():
            found = next(
                ((name, one) for name, one in scores.items() if isinstance(one, dict) and "value" in one), None
            )
            if found is None:
                continue
            name, score = found
            text = f"{output}: {metric_name(name)} {format_score(score['value'])}"
            if score.get("low") is not None:
                text += f" ({format_interval(score['low'], score['high'])})"
            if score.get("baseline") is not None:
                text += f", constant prediction {format_score(score['baseline'])}"
            rows = f", {count_noun(score['rows'], 'row')}" if "rows" in score else ""
            yield f"{split_name(split)} score", text + rows
