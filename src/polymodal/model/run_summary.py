"""Summaries of a run record for the terminal and for notices."""

from __future__ import annotations

from torch import nn

from polymodal.model.run_record import ParameterCounts, PseudoLabelRecord
from polymodal.nn.network import Network
from polymodal.training.records import SourceModelRecord


def source_model_sentence(source: SourceModelRecord) -> str:
    """Which parts were loaded from the source model, and which are new."""
    new = f"; new: {', '.join(source.new)}" if source.new else ""
    return f"starting from {source.model}: {', '.join(source.loaded)}{new}"


def pseudo_label_sentence(labels: PseudoLabelRecord) -> str:
    """The effect of pseudo-labels."""
    rounds = labels.rounds
    first, last, selected = rounds[0], rounds[-1], rounds[labels.selected_round]
    if labels.selected_round == 0:
        reason = last.reason if len(rounds) == 2 else None
        return f"pseudo-labels: not used: {reason or 'they do not improve the validation score'}"
    before, after = first.validation or {}, selected.validation or {}
    metric = next(iter(after))
    return (
        f"pseudo-labels: round {selected.round} is selected; {selected.num_labels:,} of {labels.unlabeled:,} unlabeled "
        f"rows have a pseudo-label (probability of at least {selected.threshold:.3f}; precision on validation rows "
        f"{selected.precision:.1%}, lower bound {selected.precision_low:.1%}); {metric} on validation rows: "
        f"{_number(before.get(metric))} without, {_number(after[metric])} with"
    )


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4g}"


def describe_trainable(network: Network) -> str:
    """The number of parameters and of trainable parameters, in total and by encoder, and the memory that training needs
    for weights, gradients and optimizer state."""
    counts = count_parameters(network)
    memory = f"weights, gradients and optimizer state {training_state_mib(counts):,.0f} MiB"
    return f"{parameters_sentence(counts, count_encoders(network))}\n{memory}"


def count_parameters(module: nn.Module) -> ParameterCounts:
    """The number of parameters and of trainable parameters of a module."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in module.parameters()]
    return ParameterCounts(sum(size for size, _ in sizes), sum(size for size, trainable in sizes if trainable))


def count_encoders(network: Network) -> dict[str, ParameterCounts]:
    """The parameter counts of the encoder of each input."""
    return {name: count_parameters(encoder) for name, encoder in network.encoders().items()}


def training_state_mib(counts: ParameterCounts) -> float:
    """MiB of fp32 weights, and of a gradient and two moments for each trainable parameter."""
    return (4 * counts.total + 12 * counts.trainable) / 2**20


def parameters_sentence(counts: ParameterCounts, encoders: dict[str, ParameterCounts]) -> str:
    """The number of parameters; if some are frozen, one line in total and one line for each partly frozen encoder."""
    if counts.trainable == counts.total:
        return f"parameters {counts.total:,}"
    ratio = counts.trainable / counts.total
    lines = [f"parameters {counts.total:,}, trainable {counts.trainable:,} ({ratio:.2%})"]
    lines += [
        f"  encoder of {name}: {encoder.trainable:,} of {encoder.total:,}"
        for name, encoder in encoders.items()
        if encoder.trainable < encoder.total
    ]
    return "\n".join(lines)
