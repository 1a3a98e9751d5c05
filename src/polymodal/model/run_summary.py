"""The record of a run in words: what is said of a training on the terminal and among its notices."""

from __future__ import annotations

from torch import nn

from polymodal.model.run_record import ParameterCounts, PseudoLabelRecord
from polymodal.nn.network import Network
from polymodal.training.records import SourceModelRecord


def source_model_sentence(start: SourceModelRecord) -> str:
    """What a training goes on from, and what is new in it."""
    new = f"; new: {', '.join(start.new)}" if start.new else ""
    return f"going on from {start.model}: {', '.join(start.loaded)}{new}"


def pseudo_label_sentence(labels: PseudoLabelRecord) -> str:
    """What pseudo-labels did."""
    rounds = labels.rounds
    first, last, kept = rounds[0], rounds[-1], rounds[labels.kept]
    if labels.kept == 0:
        why = last.why if len(rounds) == 2 else None
        return f"pseudo-labels: the model without them is kept: {why or 'with them it validates no better'}"
    before, after = first.valid or {}, kept.valid or {}
    metric = next(iter(after))
    return (
        f"pseudo-labels: round {kept.round} is kept: {kept.taken:,} of {labels.unlabeled:,} rows without a label were "
        f"given one (from a probability of {kept.threshold:.3f} on; {kept.precision:.1%} of such validation rows "
        f"are right, at least {kept.precision_low:.1%}); {metric} on the validation rows "
        f"{_number(before.get(metric))} without, {_number(after[metric])} with"
    )


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4g}"


def describe_trainable(network: Network) -> str:
    """How many parameters there are and how many of them learn, in all and by encoder where some do not; and the
    memory that this takes in training, before the first step."""
    counts = count_parameters(network)
    held = f"weights, gradients and optimiser {training_state_mib(counts):,.0f} MiB"
    return f"{parameters_sentence(counts, count_encoders(network))}\n{held}"


def count_parameters(module: nn.Module) -> ParameterCounts:
    """The parameters of a network or a part of it, and how many of them learn."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in module.parameters()]
    return ParameterCounts(sum(size for size, _ in sizes), sum(size for size, learns in sizes if learns))


def count_encoders(network: Network) -> dict[str, ParameterCounts]:
    """The same of each input's encoder."""
    return {name: count_parameters(encoder) for name, encoder in network.encoders().items()}


def training_state_mib(counts: ParameterCounts) -> float:
    """MiB of fp32 weights, and of a gradient and two moments for each that learns."""
    return (4 * counts.total + 12 * counts.trainable) / 2**20


def parameters_sentence(counts: ParameterCounts, encoders: dict[str, ParameterCounts]) -> str:
    """The number of parameters; where some do not learn, a line for all and one for each such encoder."""
    if counts.trainable == counts.total:
        return f"parameters {counts.total:,}"
    share = counts.trainable / counts.total
    lines = [f"parameters {counts.total:,}, of which {counts.trainable:,} learn ({share:.2%})"]
    lines += [
        f"  encoder of {name}: {one.trainable:,} of {one.total:,}"
        for name, one in encoders.items()
        if one.trainable < one.total
    ]
    return "\n".join(lines)
