"""The members of a model: which estimators, and whether a network, by the quality that the recipe asks for."""

from __future__ import annotations

from polymodal.core.errors import RecipeError, did_you_mean
from polymodal.core.options import Options
from polymodal.core.registry import components, find
from polymodal.features.input_features import input_features, required_modality_options
from polymodal.nn.encoders.pretrained import PretrainedEncoder
from polymodal.recipe.ensemble import Quality
from polymodal.recipe.recipe import Recipe

#: Modalities whose features hold all of their content, so that estimators can do without a network.
TABULAR = frozenset({"number", "category", "datetime", "text"})
#: Modalities of which every column is a feature, which trees split.
COLUMNS = frozenset({"number", "category", "datetime"})
#: By quality, the largest number of rows for which members are compared in folds, and the number of folds.
FOLDS: dict[Quality, tuple[int, int]] = {"fast": (1_000, 5), "balanced": (5_000, 5), "best": (20_000, 8)}
#: Largest number of rows for which a network is trained in every fold.
MAX_FOLD_ROWS: dict[Quality, int] = {"fast": 0, "balanced": 1_000, "best": 5_000}
#: Estimators by quality.
ESTIMATORS: dict[Quality, tuple[str, ...]] = {
    "fast": ("linear", "gradient_boosting"),
    "balanced": ("linear", "gradient_boosting", "kernel"),
    "best": ("linear", "gradient_boosting", "kernel"),
}


def complete_members(recipe: Recipe, given: Recipe, rows: int, *, estimators: bool) -> Recipe:
    """The recipe with `members`, `network` and `ensemble.folds`.

    given: the recipe as the user wrote it
    rows: rows of the training table
    estimators: whether the workflow supports members other than a network

    Raises:
        RecipeError: members were asked for, and a part of the recipe needs a network alone.
    """
    reason = _needs_network(recipe) or ("" if estimators else "this workflow trains networks only")
    asked = _asked_for(given)
    if reason:
        if asked:
            raise RecipeError(asked, f"members beside the network are not available: {reason}; remove it")
        return recipe.model_copy(update={"members": [], "network": True})
    if not asked:
        return recipe.model_copy(update={"members": [], "network": True})
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
    folds = recipe.ensemble.folds
    if folds is None and members:
        most_rows, count = FOLDS[quality]
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
    spaces = {find("task", spec.task.name).space for spec in recipe.outputs.values() if spec.task is not None}
    kinds = {spec.modality.name for spec in recipe.inputs.values() if spec.modality is not None}
    for name in ESTIMATORS[quality]:
        if name not in known or not spaces <= known[name].spaces:
            continue
        if quality == "fast" and name == "gradient_boosting" and not kinds & COLUMNS:
            continue  # trees on the components of a text or of media cost much and rarely win
        options = known[name].Options()
        limit = known[name].max_rows(options)
        if limit is None or rows <= limit:
            found.append(options)
    inputs = [name for name, spec in recipe.inputs.items() if spec.features and not spec.privileged]
    if len(inputs) > 1 and "linear" in known:
        found += [known["linear"].Options(inputs=[name]) for name in inputs]
    return found


def _needs_media_network(recipe: Recipe, quality: Quality) -> bool:
    """Whether a network can find what estimators cannot: content of media and series without a frozen pretrained
    encoder, or relations between texts and media, as between a question and an image."""
    if quality == "fast":
        return False
    kinds = [spec.modality.name for spec in recipe.inputs.values() if spec.modality is not None]
    if sum(kind not in COLUMNS for kind in kinds) > 1:
        return True
    return quality == "best" or any(
        spec.modality is not None
        and spec.modality.name not in TABULAR
        and not (spec.encoder is not None and issubclass(find("encoder", spec.encoder.name), PretrainedEncoder))
        for spec in recipe.inputs.values()
    )


def _needs_network(recipe: Recipe) -> str:
    """Why a recipe can only have a network; empty if it can have other members."""
    if not recipe.outputs:
        return "there is no target"
    if recipe.objectives:
        return "objectives train a network"
    for name, spec in recipe.outputs.items():
        task = find("task", spec.task.name) if spec.task is not None else None
        if task is not None and (task.is_generative or task.is_embedding or task.needs_timestamps):
            return f"the output {name!r} ({spec.task.name if spec.task else ''}) needs one"
    if not recipe.inputs:
        return "there is no input"
    training = recipe.training
    if recipe.privileged or training.distillation.teacher is not None:
        return "a network learns from a teacher"
    if training.pseudo_labels.rounds:
        return "pseudo-labels train a network"
    return "training.init_from continues a network" if training.init_from is not None else ""


def _asked_for(given: Recipe) -> str:
    """The key by which a recipe asks for members; empty if it does not."""
    if given.members:
        return "members"
    return "quality" if given.quality is not None else ""
