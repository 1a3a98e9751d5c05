"""The default search space: the settings that the recipe leaves open, by the modalities of its inputs."""

from __future__ import annotations

from typing import Any

from polymodal.core.errors import MissingExtraError, RecipeError
from polymodal.core.registry import components, find
from polymodal.experiments.plan import complete_schedule
from polymodal.experiments.plan_members import needs_network, usable_estimators
from polymodal.recipe.recipe import Recipe
from polymodal.training.source_model import SourceModel

#: Fusion methods to search, in the order of the first trials.
FUSIONS: list[Any] = [
    "concat",
    {"name": "late", "combine": "product"},
    "lowrank",
    {"name": "hybrid", "joint_fusion": "concat"},
    "late",
    "attention",
    "gated",
    {"name": "concat", "num_layers": 0},
]
#: The same for features of pretrained encoders, which need no further layer before the head.
FUSIONS_PRETRAINED: list[Any] = [
    {"name": "late", "combine": "product"},
    {"name": "concat", "num_layers": 0},
    {"name": "hybrid", "joint_fusion": "concat"},
    "late",
    "concat",
    "gated",
    "lowrank",
    "attention",
]
#: Head for features of pretrained encoders: wide with strong dropout, which works well with few rows.
WIDE_HEAD = {"name": "mlp", "hidden_size": 512, "dropout": 0.5}
#: Options of boosted trees.
BOOSTING_SPACE = {
    "num_leaves": {"low": 4, "high": 48, "log": True},
    "learning_rate": {"low": 0.02, "high": 0.2, "log": True},
}
#: Numbers of tokens of a pretrained encoder: 1 is its pooled output, more are averages of neighboring tokens.
TOKENS = (1, 8)
#: `fine_tuning: last` is searched if the time limit is at least this many seconds per row, since its layers run in
#: every step.
LAST_SECONDS_PER_ROW = 10.0


def default_space(given: Recipe, plan: Recipe, rows: int, seconds: float | None) -> dict[str, Any]:
    """Recipe paths with choices and ranges, best guess first.

    Settings in `given` are not searched. The other dimensions are:
    * members: a network, or one estimator on the features of all inputs; for boosted trees, their leaves and learning
      rate
    * images of a pretrained encoder: the resize mode
    * encoders: a frozen pretrained encoder with one and with several tokens, if `pretrained` is a preset or starter
      weights are installed (also with its last two layers trained, if `seconds` is None or at least 10 per row);
      otherwise all encoders of the modality that are trained from scratch
    * fusion methods (for two or more inputs), decoders, hidden size, learning rate, weight decay, modality dropout,
      batch size, epochs
    Inputs that are loaded from a saved model (`training.init_from`), and the hidden size, are not changed.

    given: the user's recipe; plan: the complete recipe; rows: number of rows of the table
    """
    space: dict[str, Any] = _member_space(given, plan, rows)
    if given.network is False or (plan.members and not plan.network):
        return space
    start = SourceModel.from_recipe(given)
    loaded = start.matching_inputs(plan) if start is not None else []
    multimodal, frozen = len(plan.inputs) > 1, False
    for name, spec in plan.inputs.items():
        own = given.inputs.get(name)
        if name in loaded or spec.modality is None or (own is not None and own.encoder is not None):
            continue
        choices = _encoders(spec.modality.name, plan, tuned=seconds is None or seconds >= LAST_SECONDS_PER_ROW * rows)
        if len(choices) > 1:
            space[f"inputs.{name}.encoder"] = choices
        checkpoint = any(str(_name(choice)).startswith("pretrained_") for choice in choices)
        frozen |= checkpoint
        given_options = own.modality.model_fields_set if own is not None and own.modality is not None else set()
        if spec.modality.name == "image" and checkpoint and "resize_mode" not in given_options:
            space[f"inputs.{name}.modality.resize_mode"] = ["stretch", "crop", "pad"]
    if multimodal and given.fusion is None:
        space["fusion"] = FUSIONS_PRETRAINED if frozen else FUSIONS
    for name, out in plan.outputs.items():
        given_output = given.outputs.get(name)
        if (
            out.decoder is not None
            and out.decoder.name == "mlp"
            and (given_output is None or given_output.decoder is None)
        ):
            heads: list[Any] = ["mlp", {"name": "mlp", "dropout": 0.3}, "linear"]
            space[f"outputs.{name}.decoder"] = [WIDE_HEAD, *heads] if frozen else heads
    if "hidden_size" not in given.model_fields_set and start is None:
        sizes = [plan.hidden_size, plan.hidden_size // 2, plan.hidden_size * 2]
        space["hidden_size"] = [sizes[2], sizes[0]] if frozen else sizes
    training, given_training = plan.training, given.training.model_fields_set
    if "learning_rate" not in given_training:
        rate = training.learning_rate
        low, high = (rate / 8, rate * 2) if frozen else (rate / 4, rate * 4)
        space["training.learning_rate"] = {"low": low, "high": high, "log": True}
    if "weight_decay" not in given_training:
        low, high = (0.01, 3.0) if frozen else (0.001, 0.3)
        space["training.weight_decay"] = {"low": low, "high": high, "log": True}
    if multimodal and "modality_dropout" not in given_training:
        space["training.modality_dropout"] = [0.0, 0.1, 0.2] if frozen else [0.2, 0.0, 0.1, 0.4]
    schedule = complete_schedule(plan, rows).training
    if "batch_size" not in given_training:
        batch = schedule.batch_size or 1
        space["training.batch_size"] = [2 * batch, batch, 4 * batch]
    if "epochs" not in given_training:
        epochs = schedule.epochs or 1
        space["training.epochs"] = sorted({max(1, epochs // 2), max(1, epochs // 4), epochs}, key=_nearness(epochs))
    return space


def _member_space(given: Recipe, plan: Recipe, rows: int) -> dict[str, Any]:
    """The choices of the members and of their options. Without choices if the recipe names members, asks for a network,
    or needs one."""
    if given.members is not None or given.network or needs_network(plan, plan.outputs):
        return _boosting_space([options.name for options in plan.members or []])
    names = usable_estimators(plan, "best", rows)
    network: list[Any] = [] if given.network is False else [[]]
    choices = [*([{"name": name}] for name in names[:1]), *network, *([{"name": name}] for name in names[1:])]
    return {"members": choices, **_boosting_space(["gradient_boosting"] if "gradient_boosting" in names else [])}


def _boosting_space(names: list[str]) -> dict[str, Any]:
    """The options of each member that is boosted trees."""
    return {
        f"members.{index}.{option}": values
        for index, name in enumerate(names)
        if name == "gradient_boosting"
        for option, values in BOOSTING_SPACE.items()
    }


def _name(choice: Any) -> Any:
    return choice.get("name") if isinstance(choice, dict) else choice


def _nearness(epochs: int) -> Any:
    """Sort key: half of the schedule first, since trials of a search are short."""
    return lambda count: abs(count - epochs // 2)


def _encoders(modality: str, plan: Recipe, *, tuned: bool) -> list[Any]:
    pretrained = components("encoder").get(f"pretrained_{modality}")
    preset = _preset(modality, plan) if pretrained is not None else None
    if pretrained is not None and preset is not None:
        name = pretrained.Options.model_fields["name"].default
        found: list[Any] = [{"name": name, "checkpoint": preset, "max_tokens": count} for count in TOKENS]
        if tuned and "fine_tuning" in pretrained.Options.model_fields:
            found.append({"name": name, "checkpoint": preset, "max_tokens": 1, "fine_tuning": "last"})
        return found
    default = find("modality", modality).default_encoder
    own = [
        name
        for name, component in components("encoder").items()
        if component.modality == modality and not name.startswith("pretrained_")
    ]
    return sorted(own, key=lambda name: (name != default, name))


def _preset(modality: str, plan: Recipe) -> str | None:
    """The preset of the recipe, or else `starter` if its weights are installed."""
    from polymodal.pretrained.resolve import read_checkpoint_config

    if plan.pretrained != "none":
        return plan.pretrained
    try:
        read_checkpoint_config("starter", modality)
    except (RecipeError, MissingExtraError):
        return None
    return "starter"
