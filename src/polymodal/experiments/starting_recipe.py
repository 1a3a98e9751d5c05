"""A short recipe to start from: what `fit` would infer from a table, with the reasons as comments."""

from __future__ import annotations

from typing import Any

from polymodal.core.formatting import escape_controls
from polymodal.core.yaml_json import write_yaml
from polymodal.experiments.plan import Plan

#: Keys that many change, with their meaning. They are commented out: `fit` chooses good values.
OTHER_KEYS = """
# data:
#   split:
#     validation_size: 0.1    # part of the rows
#     group_column: NAME      # rows with the same cell stay on one side of a split
# seed: 0
#
# One network instead of several models (polymodal list fusion, polymodal list encoder):
# members: []
# fusion: gated
# size: small                 # tiny, small or base
# training:
#   epochs: 20
#   learning_rate: 0.001
"""


def starting_recipe(plan: Plan, command: str) -> str:
    """A recipe in YAML with the inputs and outputs of a plan, which trains the same model as the table alone.

    command: how the recipe is used
    """
    lines = ["# A recipe to start from. Every key is optional; what is left out is inferred from the table.", "#"]
    lines += [f"#     {_comment(command)}", "#", "# polymodal plan shows all that is inferred.", ""]
    recipe = plan.recipe
    if recipe.quality is not None:
        lines += [f"quality: {recipe.quality}    # fast, balanced or best", ""]
    for key, specs, part in (("inputs", recipe.inputs, "modality"), ("outputs", recipe.outputs, "task")):
        if not specs:
            continue
        lines.append(f"{key}:")
        for name, spec in specs.items():
            reasons = [f"{role.column}: {role.reason}" for role in plan.roles if role.used_by == name]
            chosen = getattr(spec, part)
            value: dict[str, Any] = {"columns": list(spec.columns), part: chosen.name}
            lines += [f"  # {_comment(one)}" for one in reasons]
            lines += [f"  {line}" for line in _yaml({name: value}).splitlines()]
        lines.append("")
    left_out = [role for role in plan.roles if role.role == "ignored"]
    if left_out:
        lines += ["# Columns that are left out. Name one as an input to use it.", "#"]
        lines += [f"#   {_comment(f'{role.column}: {role.reason}')}" for role in left_out]
        lines.append("")
    lines.append(OTHER_KEYS.strip("\n"))
    return "\n".join(lines) + "\n"


def _yaml(value: dict[str, Any]) -> str:
    """A value as YAML; control characters are written as escape sequences."""
    text = write_yaml(value)
    return text if escape_controls(text, "\n") == text else write_yaml(value, allow_unicode=False)


def _comment(text: str) -> str:
    """A text on one line, without control characters."""
    return escape_controls(" ".join(text.split()))
