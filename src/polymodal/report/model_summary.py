"""Facts about a trained model for the model card, the report and the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from polymodal.core.formatting import (
    count_noun,
    format_duration,
    format_interval,
    format_score,
    join_words,
    metric_name,
    split_name,
)
from polymodal.evaluation.targets import RowCounts
from polymodal.model.model import Model
from polymodal.model.run_record import Environment


@dataclass(frozen=True)
class ScoreRow:
    """One metric of one output on one split; None if undefined.

    baseline: score of the best constant prediction
    unimodal: score with only one input, by input
    counts: the numbers of scored and other rows
    """

    metric: str
    value: float | None
    low: float | None
    high: float | None
    baseline: float | None
    greater_is_better: bool
    unimodal: dict[str, float | None]
    counts: RowCounts

    @classmethod
    def from_dict(cls, metric: str, score: dict[str, Any]) -> ScoreRow:
        """A score as `metrics.json` holds it."""
        return cls(
            metric,
            value=score.get("value"),
            low=score.get("low"),
            high=score.get("high"),
            baseline=score.get("baseline"),
            greater_is_better=score["greater_is_better"],
            unimodal=score.get("unimodal") or {},
            counts=cls.counts_of(score),
        )

    @staticmethod
    def counts_of(score: Mapping[str, Any]) -> RowCounts:
        """The numbers of rows of a score as `metrics.json` holds it."""
        return RowCounts(**{key: score[key] for key in RowCounts.model_fields if key in score})

    @property
    def name(self) -> str:
        """The metric as people read it."""
        return metric_name(self.metric)

    @property
    def best_unimodal(self) -> tuple[str, float] | None:
        """The input that scores best by itself, and its score."""
        known = [(name, value) for name, value in self.unimodal.items() if value is not None]
        if not known:
            return None
        return max(known, key=lambda pair: pair[1] if self.greater_is_better else -pair[1])

    def clearly_better_than(self, other: float) -> bool:
        """Whether the whole interval is on the better side of `other`."""
        if self.low is None or self.high is None:
            return False
        return self.low > other if self.greater_is_better else self.high < other


@dataclass(frozen=True)
class SharedItemsRow:
    """Distinct items of an input that are in two splits.

    rows: rows of the second split with such an item, of all its rows `of`
    """

    input: str
    kind: str
    first: str
    second: str
    items: int
    rows: int
    of: int

    @property
    def touches_test(self) -> bool:
        return (self.first, self.second) == ("train", "test")


def reported_split(model: Model) -> str:
    """The split whose scores are shown first: `test`, else `validation`; empty if nothing was scored."""
    return next((part for part in ("test", "validation") if part in model.metrics), "")


def scored_names(model: Model, part: str) -> list[str]:
    """The names with scores on a split: the outputs, then objectives and directions of retrieval."""
    return [*model.recipe.outputs, *(name for name in model.metrics.get(part, {}) if name not in model.recipe.outputs)]


def title(model: Model) -> str:
    """The outputs of the model; of a model without outputs, its inputs."""
    return (
        join_words(list(model.recipe.outputs))
        if model.recipe.outputs
        else f"Embeddings of {join_words(list(model.recipe.inputs))}"
    )


def score_rows(model: Model, part: str, output: str) -> list[ScoreRow]:
    """The scores of one output on one split, the leading metric first."""
    return [ScoreRow.from_dict(metric, one) for metric, one in model.metrics.get(part, {}).get(output, {}).items()]


def rows_of(model: Model, part: str) -> int:
    return model.run.splits[part].rows if part in model.run.splits else 0


def shared_items(model: Model) -> list[SharedItemsRow]:
    """Items shared between two splits, those of training and test first."""
    found = []
    for one in model.run.shared_items:
        first, second = one.between
        found.append(
            SharedItemsRow(
                one.input, _kind(model, one.input), first, second, one.items, one.rows, rows_of(model, second)
            )
        )
    return sorted(found, key=lambda one: not one.touches_test)


def shared_sentence(one: SharedItemsRow) -> str:
    """`12 of 60 test rows have an image (input "image") that training rows have too.`"""
    article = "an" if one.kind[:1] in "aeiou" else "a"
    return (
        f"{one.rows:,} of {one.of:,} {split_name(one.second)} rows have {article} {one.kind} "
        f"(input “{one.input}”) that {split_name(one.first)} rows have too."
    )


def verdict(model: Model, part: str, output: str) -> list[str]:
    """The leading score in words, with its comparison to the baseline and to the best single input."""
    rows = score_rows(model, part, output)
    if not rows:
        return []
    lead = rows[0]
    baseline = "baseline" if output in model.recipe.outputs else "chance level"
    if lead.value is None:
        return [f"The {lead.name} is undefined on the {split_name(part)} rows."]
    sentence = f"{lead.name} {format_score(lead.value)}"
    if lead.low is not None:
        sentence += f" ({model.recipe.evaluation.confidence_level:.0%} interval {format_interval(lead.low, lead.high)})"
    sentence += f" on {count_noun(lead.counts.rows, split_name(part) + ' row')}"
    if lead.baseline is not None:
        sentence += f"; {baseline} {format_score(lead.baseline)}"
    single = lead.best_unimodal
    if single is not None:
        sentence += f", the best single input ({single[0]}) {format_score(single[1])}"
    sentence = sentence[0].upper() + sentence[1:]
    sentences = [sentence + ("." if lead.greater_is_better else ". Lower is better.")]
    if not lead.counts.is_plain:
        sentences.append(lead.counts.sentence(f"{split_name(part)} row") + ".")
    if lead.baseline is not None and lead.low is not None and not lead.clearly_better_than(lead.baseline):
        sentences.append(
            f"The score is not clearly better than the {baseline}: these rows do not show that the model has learned "
            "anything."
        )
    elif single is not None and lead.low is not None and not lead.clearly_better_than(single[1]):
        sentences.append(
            f"The score is not clearly better than with only {single[0]}: these rows do not show that several inputs "
            "help."
        )
    if part == "validation":
        sentences.append(
            "There are no test rows. The model was chosen on these validation rows, so the score is optimistic."
        )
    return sentences


def count_sentences(counts: Mapping[str, RowCounts], kind: str = "row") -> list[str]:
    """The numbers of scored and other rows by output, a sentence each; one sentence if they are equal."""
    if len(set(map(repr, counts.values()))) <= 1:
        return [one.sentence(kind) for one in list(counts.values())[:1]]
    return [f"{output}: {one.sentence(kind)}" for output, one in counts.items()]


def unimodal_method(model: Model) -> str:
    """How the scores of single inputs were computed."""
    if model.run.members and model.recipe.evaluation.unimodal_scores == "train":
        return "the best member that reads only this input"
    return {
        "train": "a model trained on only this input with the same recipe",
        "mask": "this model with all other inputs masked",
        "none": "",
    }[model.recipe.evaluation.unimodal_scores]


def chosen_epochs(model: Model) -> list[int]:
    """The epochs whose weights the model has: several if they were averaged."""
    improved = [entry.epoch for entry in model.run.history if entry.best]
    return list(model.run.averaged_epochs) or improved[-1:]


def run_summary(model: Model) -> list[tuple[str, str]]:
    """How the model was trained, as pairs of name and value; without unknown values."""
    run, training = model.run, model.recipe.training
    seconds, compute, environment = run.seconds, run.compute, run.environment
    chosen = chosen_epochs(model)
    parameters = sum(parameter.numel() for parameter in model.network.parameters()) if model.has_network else 0
    fusion = model.recipe.fusion.name if model.recipe.fusion is not None and model.has_network else ""
    used = [one.name for one in run.members if any(one.weight.values())]
    facts = [
        ("Members", join_words(used) if used else ""),
        ("Size", f"{model.recipe.size}, {parameters:,} parameters" if parameters else ""),
        ("Fusion", fusion),
        ("Epochs", f"{len(run.history)} of at most {training.epochs}" if run.history else ""),
        (
            "Weights",
            _weights(chosen, run.annealed_from),
        ),
        ("Steps", f"{run.steps:,} of {training.batch_size} rows" if compute else ""),
        ("Speed", f"{run.rows_per_second:,.0f} rows per second" if compute else ""),
        ("Training time", format_duration(seconds.training) if compute else ""),
        ("Preparation time", format_duration(seconds.preparation) if seconds.preparation else ""),
        ("Total time with scoring", format_duration(seconds.total) if seconds.total else ""),
        ("Number format", compute.precision if compute else ""),
        ("Number format of stored features", compute.features if compute else ""),
        ("Threads", str(compute.threads) if compute else ""),
        ("Reason for format and threads", compute.reason if compute else ""),
        ("Processor", environment.processor if environment else ""),
        ("Seed", str(model.recipe.seed)),
        ("Versions", _versions(environment) if environment else ""),
    ]
    return [(name, value) for name, value in facts if value]


def _weights(chosen: list[int], annealed_from: int) -> str:
    if not chosen:
        return ""
    text = ("average of epochs " if len(chosen) > 1 else "epoch ") + join_words([str(epoch) for epoch in chosen])
    return text + (f", annealed from epoch {annealed_from}" if annealed_from else "")


def _versions(environment: Environment) -> str:
    return f"polymodal {environment.polymodal}, torch {environment.torch}, python {environment.python}"


def _kind(model: Model, name: str) -> str:
    spec = model.recipe.inputs.get(name)
    return spec.modality.name if spec is not None and spec.modality is not None else "value"
