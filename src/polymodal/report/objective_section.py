"""Sections of the report for objectives and for retrieval between inputs: scores and learning curves."""

from __future__ import annotations

from dataclasses import dataclass, field

from markupsafe import Markup

from polymodal.model.model import Model
from polymodal.report.charts import ChartLine, line_chart
from polymodal.report.model_summary import ScoreRow, chosen_epochs, score_rows, scored_names
from polymodal.report.output_section import with_bars


@dataclass(frozen=True)
class ObjectiveSection:
    """The loss of an objective on one set of inputs, or one direction of retrieval; `unimodal` is empty."""

    name: str
    scores: dict[str, list[tuple[ScoreRow, Markup]]]
    curves: list[Markup]
    unimodal: list[str] = field(default_factory=list)


def objective_sections(model: Model, part: str) -> list[ObjectiveSection]:
    """Everything with scores on `part` except the outputs."""
    names = [name for name in scored_names(model, part) if name not in model.recipe.outputs]
    parts = [one for one in ("test", "validation") if one in model.metrics]
    return [
        ObjectiveSection(
            name, {one: with_bars(score_rows(model, one, name)) for one in parts}, _curves(model, part, name)
        )
        for name in names
    ]


def _curves(model: Model, part: str, name: str) -> list[Markup]:
    """The loss by epoch, if `name` is an objective."""
    history = model.run.history
    train = [(float(one.epoch), loss) for one in history if (loss := one.loss.get(name)) is not None]
    valid = [(float(one.epoch), loss) for one in history if (loss := one.validation_loss.get(name)) is not None]
    if not train:
        return []
    chance = model.metrics[part][name]["loss"]["baseline"]
    return [
        line_chart(
            [ChartLine("training", train, "two"), ChartLine("validation", valid, "one")],
            title=f"Loss of {name} by epoch, on training and validation rows",
            x_label="epoch",
            y_label="loss",
            level=("chance level", chance),
            marked=[float(epoch) for epoch in chosen_epochs(model)],
        )
    ]
