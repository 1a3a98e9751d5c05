"""The members of a model: which estimators, and whether a network, by the quality that the recipe asks for."""

from __future__ import annotations

from collections.abc import Mapping

from polymodal.core.errors import RecipeError, did_you_mean
from polymodal.core.options import Options
from polymodal.core.registry import components, find
from polymodal.features.input_features import has_frozen_checkpoint, input_features, required_modality_options
from polymodal.recipe.ensemble import Quality
from polymodal.recipe.recipe import InputSpec, OutputSpec, Recipe

#: Modalities whose features hold all of their content, so that estimators can do without a network.
COMPLETE_FEATURES = frozenset({"number", "category", "datetime", "text", "time_series"})
#: Modalities of which every column is a feature, which trees split.
COLUMNS = frozenset({"number", "category", "datetime"})
#: By quality, the largest number of rows for which members are compared in folds, and the number of folds.
FOLDS: dict[Quality, tuple[int, int]] = {"fast": (1_000, 5), "balanced": (5_000, 5), "best": (20_000, 8)}
#: Largest number of rows for which `fast` uses folds if all members are linear: such a fold costs little.
MAX_LINEAR_ROWS = 5_000
#: Largest number of rows for which a network is trained in every fold.
MAX_FOLD_ROWS: dict[Quality, int] = {"fast": 0, "balanced": 1_000, "best": 5_000}
#: Estimators by quality.
ESTIMATORS: dict[Quality, tuple[str, ...]] = {
    "fast": ("linear", "gradient_boosting", "stacking"),
    "balanced": ("linear", "gradient_boosting", "stacking", "kernel"),
    "best": ("linear", "gradient_boosting", "stacking", "kernel"),
}


#: Keys of `training` that also concern members without a network.
COMPUTE = frozenset({"device", "precision", "num_threads"})


def with_default_quality(recipe: Recipe, outputs: Mapping[str, OutputSpec], *, estimators: bool) -> Recipe:
    """The recipe with `quality: balanced`, if it names neither members nor options of a network.

    outputs: the complete outputs
    estimators: whether the workflow supports members other than a network
    """
    named = recipe.quality is not None or recipe.members is not None
    alone = bool(network_key(recipe)) and recipe.network is not False
    if named or alone or not estimators or needs_network(recipe, outputs):
        return recipe
    return recipe.model_copy(update={"quality": "balanced"})


def network_key(recipe: Recipe, ignored: frozenset[str] = frozenset()) -> str:
    """The first key of a recipe that only concerns a network; empty if it sets none."""
    for key in ("fusion", "task_tokens", "size", "hidden_size", "objectives"):
        if key in recipe.model_fields_set - ignored:
            return key
    for kind, specs, keys in (("inputs", recipe.inputs, ("encoder",)), ("outputs", recipe.outputs, ("decoder",))):
        for name, spec in specs.items():
            for key in keys:
                if getattr(spec, key) is not None:
                    return f"{kind}.{name}.{key}"
    found = recipe.training.model_fields_set - COMPUTE
    return next((f"training.{key}" for key in type(recipe.training).model_fields if key in found), "")


def _key_without_effect(given: Recipe) -> str:
    """The first key of a recipe that only a network reads; empty if it sets none. Features read encoders and sizes."""
    return network_key(given.model_copy(update={"inputs": {}}), ignored=frozenset({"size"}))


def member_notes(recipe: Recipe, given: Recipe, *, estimators: bool) -> list[str]:
    """What the user might not expect of the members of a complete recipe."""
    key = network_key(given)
    if recipe.members or given.members is not None or not key or not estimators:
        return []
    if needs_network(recipe, recipe.outputs):
        return []
    return [f"one network is trained, because the recipe sets {key}; quality: balanced also tries estimators"]


def complete_members(recipe: Recipe, given: Recipe, rows: int, *, estimators: bool) -> Recipe:
    """The recipe with `members`, `network` and `ensemble.folds`.

    recipe: with `quality`, if it is to have the members of one (`with_default_quality`)
    given: the recipe as the user wrote it
    rows: rows of the training table
    estimators: whether the workflow supports members other than a network

    Raises:
        RecipeError: members were asked for, and a part of the recipe needs a network alone.
    """
    reason = needs_network(recipe, recipe.outputs) or ("" if recipe.inputs else "there is no input")
    asked = _asked_for(given) or ("network" if reason and given.network is False else "")
    reason = reason or ("" if estimators else "this workflow trains networks only")
    if reason and asked:
        raise RecipeError(asked, f"members beside the network are not available: {reason}; remove it")
    if reason or (recipe.quality is None and not recipe.members):
        return recipe.model_copy(update={"quality": None, "members": [], "network": True})
    recipe = _with_features(recipe)
    quality: Quality = recipe.quality or "balanced"
    members, network = recipe.members, recipe.network
    if members is None:
        members = _members(recipe, quality, rows)
    for index, options in enumerate(members):
        for name in options.inputs:  # type: ignore[attr-defined]
            if name not in recipe.inputs:
                hint = did_you_mean(name, recipe.inputs)
                raise RecipeError(f"members.{index}.inputs", f"there is no input {name!r}; {hint}")
    if network is None:
        network = not members or _needs_media_network(recipe, quality)
    if not members and not network:
        raise RecipeError("network", "there is no member: set it to true, or name members")
    decided = given.network is False and given.members is not None  # as a complete recipe has both
    if not network and not decided and (dead := _key_without_effect(given)):
        path = f"quality {recipe.quality}" if recipe.quality is not None else "members"
        raise RecipeError(
            dead, f"it has no effect, because {path} trains no network here; set network: true, or remove it"
        )
    folds = recipe.ensemble.folds
    if folds is None and members:
        most_rows, count = FOLDS[quality]
        if all(one.name == "linear" for one in members):
            most_rows = max(most_rows, MAX_LINEAR_ROWS)
        folds = count if rows <= (MAX_FOLD_ROWS[quality] if network else most_rows) else 1
    ensemble = recipe.ensemble.model_copy(update={"folds": folds})
    return recipe.model_copy(update={"members": members, "network": network, "ensemble": ensemble})


def _with_features(recipe: Recipe) -> Recipe:
    """The recipe with the featurizers of every input, and with the options of its modality that they need.

    Raises:
        RecipeError: the recipe sets such an option to null.
    """
    inputs = {}
    for name, spec in recipe.inputs.items():
        assert spec.modality is not None
        wanted = {}
        for option, value in required_modality_options(name, spec).items():
            if getattr(spec.modality, option) is None:  # any other value serves
                wanted[option] = value
            if option in spec.modality.model_fields_set and option in wanted:
                path = f"inputs.{name}.modality.{option}"
                raise RecipeError(path, "the features of this input need it: remove null, or name other features")
        modality = spec.modality.model_copy(update=wanted)
        inputs[name] = spec.model_copy(update={"features": input_features(name, spec), "modality": modality})
    return recipe.model_copy(update={"inputs": inputs})


def _members(recipe: Recipe, quality: Quality, rows: int) -> list[Options]:
    """The estimators of a quality: each on all inputs, and a linear model on each single input."""
    found: list[Options] = []
    known = components("estimator")
    kinds = {spec.modality.name for spec in recipe.inputs.values() if spec.modality is not None}
    for name in usable_estimators(recipe, quality, rows):
        if quality == "fast" and name == "gradient_boosting" and not kinds & COLUMNS:
            continue  # trees on the components of a text or of media cost much and rarely win
        found.append(known[name].Options())
    inputs = [name for name, spec in recipe.inputs.items() if spec.features and not spec.privileged]
    if len(inputs) > 1 and "linear" in known:
        found += [known["linear"].Options(inputs=[name]) for name in inputs]
    return found


def usable_estimators(recipe: Recipe, quality: Quality, rows: int) -> list[str]:
    """The estimators of a quality that support the inputs, the outputs and the number of rows."""
    known = components("estimator")
    kinds = {spec.modality.name for spec in recipe.inputs.values() if spec.modality is not None}
    spaces = {find("task", spec.task.name).space for spec in recipe.outputs.values() if spec.task is not None}
    found = [name for name in ESTIMATORS[quality] if name in known and spaces <= known[name].spaces]
    if not (kinds & COLUMNS and kinds - COLUMNS) and "stacking" in found:
        found.remove("stacking")  # its trees combine columns with the predictions of other inputs
    limits = {name: known[name].max_rows(known[name].Options()) for name in found}
    return [name for name in found if limits[name] is None or rows <= limits[name]]


def wants_alternative(recipe: Recipe, given: Recipe) -> bool:
    """Whether a network without the frozen checkpoints is trained beside the members of a complete recipe, because it
    may learn what the checkpoints do not tell: details of media, or relations between texts and media."""
    if not recipe.members or recipe.quality in (None, "fast") or given.network is not None:
        return False
    if any(spec.encoder is not None for spec in given.inputs.values()):
        return False
    contents = _contents(recipe)
    frozen = [spec for spec in contents if has_frozen_checkpoint(spec)]
    media = any(spec.modality is not None and spec.modality.name not in COMPLETE_FEATURES for spec in frozen)
    return media or bool(frozen and len(contents) > 1)


def _contents(recipe: Recipe) -> list[InputSpec]:
    """The inputs of texts, media and series."""
    return [spec for spec in recipe.inputs.values() if spec.modality is not None and spec.modality.name not in COLUMNS]


def _needs_media_network(recipe: Recipe, quality: Quality) -> bool:
    """Whether a network is a member, because it can find what estimators cannot: content of media without a
    frozen pretrained encoder, or relations between texts and media, as between a question and an image. A single series
    needs none: its MiniRocket features hold what decides."""
    if quality == "fast":
        return False
    bare = [spec for spec in _contents(recipe) if not has_frozen_checkpoint(spec)]
    media = any(spec.modality is not None and spec.modality.name not in COMPLETE_FEATURES for spec in bare)
    if quality == "best" and not (len(recipe.inputs) == 1 and _has_series(recipe)):
        return True
    return media or bool(bare and len(_contents(recipe)) > 1)


def _has_series(recipe: Recipe) -> bool:
    return any(spec.modality is not None and spec.modality.name == "time_series" for spec in recipe.inputs.values())


def needs_network(recipe: Recipe, outputs: Mapping[str, OutputSpec]) -> str:
    """Why a recipe with these complete outputs can only have a network; empty if it can have other members."""
    if not outputs:
        return "there is no target"
    if recipe.objectives:
        return "objectives train a network"
    for name, spec in outputs.items():
        task = find("task", spec.task.name) if spec.task is not None else None
        if task is not None and task.is_network_only():
            return f"the output {name!r} ({spec.task.name if spec.task else ''}) needs one"
    training = recipe.training
    if recipe.privileged or (training.distillation.teacher is not None and recipe.network is not False):
        return "a network learns from a teacher; members do with network: false"
    if training.pseudo_labels.rounds:
        return "pseudo-labels train a network"
    return "training.init_from continues a network" if training.init_from is not None else ""


def _asked_for(given: Recipe) -> str:
    """The key by which a recipe asks for members; empty if it does not."""
    if given.members:
        return "members"
    return "quality" if given.quality is not None else ""
