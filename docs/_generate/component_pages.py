"""One page for each kind of component: a summary table, then each component with its options."""

from __future__ import annotations

from typing import Any

from polymodal.core.option_docs import documented_fields
from polymodal.core.registry import components

from .markdown import docstring, first_sentence, table
from .options_table import nested_section, options_table

#: For each kind: the name of its page, the title, and what the kind is.
TITLES = {
    "modality": (
        "modalities",
        "Modalities",
        "A modality is one kind of input: how its cells are recognized, cleaned and prepared.",
    ),
    "encoder": (
        "encoders",
        "Encoders",
        "An encoder is a network that turns the prepared tensors of one modality into tokens.",
    ),
    "fusion": (
        "fusions",
        "Fusions",
        "A fusion combines the inputs. [Fusion methods](../explanation/fusion.md) compares them; "
        "[Choose a fusion](../how-to/choose-fusion.md) helps to select one.",
    ),
    "decoder": (
        "decoders",
        "Decoders",
        "A decoder is a network that turns the output of the fusion into what a task predicts: numbers, or a text.",
    ),
    "task": ("tasks", "Tasks", "A task is one kind of target: its loss, its predictions and its metrics."),
    "objective": (
        "objectives",
        "Objectives",
        "An objective is a loss on the inputs themselves, without a target. "
        "[Objectives](../explanation/objectives.md) compares them.",
    ),
    "featurizer": (
        "featurizers",
        "Featurizers",
        "A featurizer turns the prepared items of one input into columns for estimators.",
    ),
    "estimator": (
        "estimators",
        "Estimators",
        "An estimator is a model of one target on columns of features, without a network. "
        "[Models without a network](../how-to/estimators.md) says what each is good at.",
    ),
}


def component_page(kind: str) -> str:
    """Every component of a kind: docstring, properties, options."""
    _, title, description = TITLES[kind]
    registered = components(kind)
    lines = [f"# {title}", "", description, "", *_summary_table(kind, registered), ""]
    for name, component in registered.items():
        lines += [f"## {name}", "", docstring(component), ""]
        lines += [f"- {label}: {value}" for label, value in _properties(kind, component)]
        sections = {
            key: section
            for key, field in documented_fields(component.Options).items()
            if (section := nested_section(field.annotation)[0]) is not None
        }
        links = {key: f"#{name}-{key}" for key in sections}
        lines += ["", options_table(component.Options, links), ""]
        for key, section in sections.items():
            lines += [f"({name}-{key})=", f"### `{name}.{key}`", "", docstring(section), "", options_table(section), ""]
    return "\n".join(lines)


def _summary_table(kind: str, registered: dict[str, type[Any]]) -> list[str]:
    """Name and first sentence of every component. Encoders are grouped by the modality that they read."""
    if kind == "encoder":
        ordered = sorted(registered, key=lambda name: (registered[name].modality, name))
        rows = [[f"`{registered[name].modality}`", *_summary_row(name, registered[name])] for name in ordered]
        return table(["reads", "encoder", "what it is"], rows)
    return table([kind, "what it is"], [_summary_row(name, component) for name, component in registered.items()])


def _summary_row(name: str, component: type[Any]) -> list[str]:
    return [f"[`{name}`](#{name})", first_sentence(component)]


def _properties(kind: str, component: type[Any]) -> list[tuple[str, str]]:
    """What the class states about itself, besides its options."""
    properties = [("Class", f"`{component.__module__}.{component.__qualname__}`")]
    if kind == "modality":
        encoder = component.default_encoder
        properties.append(("Default encoder", f"[{encoder}](encoders.md#{encoder})"))
        properties.append(("Columns of one input", "one or more" if component.many_columns else "one"))
    if kind == "encoder":
        properties.append(("Reads", f"[{component.modality}](modalities.md#{component.modality})"))
    if kind == "fusion":
        properties.append(("Level", component.level))
    if kind == "task":
        properties.append(("Space of predicted values", component.space))
    if kind == "objective":
        fitting = [f"[{name}](modalities.md#{name})" for name in component.modalities]
        properties.append(("Modalities", ", ".join(fitting) or "any"))
        properties.append(("Number of inputs", f"{component.min_inputs} or more"))
    if kind == "featurizer":
        properties.append(("Reads", ", ".join(f"[{name}](modalities.md#{name})" for name in component.modalities)))
    if kind == "estimator":
        limit = component.max_rows(component.Options())
        properties.append(("Spaces of targets", ", ".join(sorted(component.spaces))))
        properties.append(("Training rows", f"up to {limit:,}" if limit else "any number"))
    return properties
