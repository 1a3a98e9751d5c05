"""Completion of a recipe from a table: the role of each column, and all unset options."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from polymodal.core.errors import DataError, RecipeError
from polymodal.core.options import Options
from polymodal.core.registry import build, components, find
from polymodal.data.table.sample import ColumnSample, Match
from polymodal.data.table.table import Table
from polymodal.experiments.boxed_pictures import with_whole_pictures
from polymodal.experiments.column_checks import check_columns
from polymodal.experiments.column_samples import ColumnSamples
from polymodal.experiments.input_names import input_name, named_groups, refuse_unknown
from polymodal.experiments.installed_checkpoints import checkpoint_notes, installed_encoder
from polymodal.experiments.part_options import resolve_modality, with_required_options
from polymodal.experiments.plan_members import complete_members, member_notes, wants_alternative, with_default_quality
from polymodal.experiments.preserved_time import with_time_preserved
from polymodal.experiments.table_defaults import with_table_defaults
from polymodal.experiments.unmatched import why_unmatched
from polymodal.model.run_record import IGNORED_BY_NAME, NOT_LISTED, ColumnRole
from polymodal.recipe.recipe import DEFAULT_FUSION, InputSpec, OutputSpec, Recipe
from polymodal.runtime.compute import resolve_device
from polymodal.training.source_model import SourceModel

#: Columns with a lower confidence of the best modality are ignored.
MIN_CONFIDENCE = 0.3


@dataclass(frozen=True)
class Plan:
    """A complete recipe, the role of every column of the table, and notes for the user.

    names_inputs: whether the recipe that was given names its inputs, so that none may be left out
    alternative: the complete recipe of a network without frozen checkpoints, which is the model if it predicts better
        than the members of `recipe`; None: there is none
    """

    recipe: Recipe
    roles: list[ColumnRole]
    notes: tuple[str, ...] = ()
    names_inputs: bool = False
    alternative: Recipe | None = None

    def with_schedule(self, training_rows: int) -> Plan:
        """The plan with the schedule for a number of training rows (`complete_schedule`)."""
        other = self.alternative and complete_schedule(self.alternative, training_rows)
        return replace(self, recipe=complete_schedule(self.recipe, training_rows), alternative=other)


def make_plan(
    table: Table,
    recipe: Recipe,
    targets: list[str] | None = None,
    *,
    pretraining: bool = False,
    estimators: bool = False,
) -> Plan:
    """Infer all unset parts of `recipe` from a sample of `table`. Set options never change.

    estimators: the workflow supports members without a network
    pretraining: there is no target. Without objectives, several inputs are aligned (`contrastive`), and a single input
        is masked and reconstructed (`masked_modeling`).

    Raises:
        RecipeError: a column is missing or used twice, or an option of the recipe does not fit.
        DataError: there is no input or no target.
    """
    given = recipe
    resolve_device(recipe.training.device)  # fail before any row is prepared
    start = SourceModel.from_recipe(recipe)
    if start is not None:
        recipe = start.complete_recipe(recipe)
    samples = ColumnSamples(table, recipe.data.limits)
    outputs = {name: spec.model_copy() for name, spec in recipe.outputs.items()}
    for target in targets or []:
        if not any(target in spec.columns for spec in outputs.values()):
            outputs[target] = OutputSpec(columns=[target])
    if not outputs and not recipe.objectives and not pretraining:
        raise RecipeError("outputs", "nothing to train: give a target column or outputs, or objectives for pretraining")
    roles: list[ColumnRole] = []
    for name, spec in outputs.items():
        spec = spec if start is None else start.complete_output(name, spec)
        outputs[name] = _complete_output(name, spec, recipe, samples, roles)
    recipe = with_default_quality(recipe, outputs, estimators=estimators)
    reserved = {role.column for role in roles}
    for path, column in (
        ("data.weight_column", recipe.data.weight_column),
        ("data.split.column", recipe.data.split.column),
        ("data.split.group_column", recipe.data.split.group_column),
    ):
        if column is None:
            continue
        samples.check(column, path)
        if column not in {c for spec in recipe.inputs.values() for c in spec.columns} | reserved:
            roles.append(ColumnRole(column, path.split(".")[-1], "", f"named in {path}"))
    for column in recipe.data.ignore_columns:
        samples.check(column, "data.ignore_columns")
        roles.append(ColumnRole(column, "ignored", "", IGNORED_BY_NAME))
    for name, spec in outputs.items():
        _reserve_prompts(name, spec, samples, roles)
    taken = {role.column for role in roles}
    if recipe.inputs and not recipe.data.infer_other_columns:
        inputs = {
            name: _complete_input(name, given, recipe, samples, roles, start) for name, given in recipe.inputs.items()
        }
        used = {role.column for role in roles}
        roles += [ColumnRole(c, "ignored", "", NOT_LISTED) for c in table.columns if c not in used]
    else:
        inputs = _infer_inputs(recipe, samples, taken, roles, start)
    if start is not None:
        start.check_inputs(inputs)
    check_columns(recipe, outputs, inputs, roles)
    timed = [
        name
        for name, spec in outputs.items()
        if spec.task is not None and find("task", spec.task.name).needs_timestamps
    ]
    if timed:
        for name, one in inputs.items():
            inputs[name] = with_time_preserved(name, one, recipe.inputs.get(name), timed[0])
    outputs, inputs = with_whole_pictures(outputs, inputs, recipe.inputs)
    generates = {
        name: find("task", spec.task.name).is_generative for name, spec in outputs.items() if spec.task is not None
    }
    generates_only = all(generates.values())
    if any(generates.values()) and (privileged := [name for name, one in inputs.items() if one.privileged]):
        raise RecipeError(
            f"inputs.{privileged[0]}.privileged", "privileged inputs do not support text or image outputs"
        )
    if inputs and all(one.privileged for one in inputs.values()):
        raise RecipeError(f"inputs.{next(iter(inputs))}.privileged", "at least one input must not be privileged")
    if not inputs and not (outputs and generates_only):
        raise DataError(
            "no column can be used as an input: "
            + "; ".join(f"{r.column}: {r.reason}" for r in roles if r.role == "ignored"),
            file=table.name,
        )
    objectives = recipe.objectives or (_infer_objectives(inputs) if pretraining else [])
    listed = {"ignore_columns": [], "infer_other_columns": False}  # all inputs are listed now
    data = recipe.data.model_copy(update=listed)
    complete = recipe.model_copy(update={"inputs": inputs, "outputs": outputs, "objectives": objectives, "data": data})
    if inputs and complete.uses_fusion:
        complete = complete.model_copy(update={"fusion": recipe.fusion or _infer_fusion(inputs, outputs, start)})
    complete = with_table_defaults(complete, given, len(table)).with_size_defaults()
    complete = complete_members(complete, given, len(table), estimators=estimators)
    try:
        complete.check_components()
    except RecipeError as error:
        left_out = [f"{role.column}: {role.reason}" for role in roles if role.role == "ignored" and not recipe.inputs]
        if error.path.startswith("objectives.") and error.path.endswith(".inputs") and left_out:
            raise RecipeError(error.path, f"{error.problem}; ignored columns: {'; '.join(left_out)}") from None
        raise
    order = {column: index for index, column in enumerate(table.columns)}
    roles.sort(key=lambda role: order[role.column])
    names_inputs = bool(given.inputs) and not given.data.infer_other_columns
    notes = (*checkpoint_notes(complete), *member_notes(complete, given, estimators=estimators))
    alternative = None
    if wants_alternative(complete, given):
        alone = given.model_copy(update={"members": [], "quality": None})
        alternative = make_plan(table, alone, targets).recipe
    return Plan(complete, roles, notes, names_inputs, alternative)


def complete_schedule(recipe: Recipe, training_rows: int) -> Recipe:
    """Set `batch_size`, `epochs` and `early_stopping_patience` of `training` from the number of training rows, if
    unset."""
    options = recipe.training
    batch = options.batch_size or min(256, max(16, 2 ** round(math.log2(max(1, training_rows / 30)))))
    steps = max(1, math.ceil(training_rows / batch))
    epochs = min(200, max(10, round(1500 / steps))) if options.epochs is None else options.epochs
    patience = options.early_stopping_patience or max(5, round(0.4 * epochs))
    filled = options.model_copy(update={"batch_size": batch, "epochs": epochs, "early_stopping_patience": patience})
    return recipe.model_copy(update={"training": filled})


def _complete_output(
    name: str, spec: OutputSpec, recipe: Recipe, samples: ColumnSamples, roles: list[ColumnRole]
) -> OutputSpec:
    for column in spec.columns:
        samples.check(column, f"outputs.{name}.columns")
    task: Options
    if spec.task is not None:
        task, reason = spec.task, "set in the recipe"
    else:
        first = samples[spec.columns[0]]
        if len(first.values) == 0:
            raise DataError("the target is empty in all sampled rows", column=first.name, file=samples.table.name)
        kind, match = _best_match("task", first)
        if match is None:
            raise DataError(
                f"cannot infer a task for this target (values such as {first.values[0]!r}); "
                f"set outputs.{name}.task to classification, regression or another task",
                column=first.name,
                file=samples.table.name,
            )
        task, reason = find("task", kind).Options(), match.reason
    roles += [ColumnRole(column, "target", task.name, reason, name) for column in spec.columns]
    decoder = spec.decoder or find("decoder", find("task", task.name).default_decoder).Options()
    needed, can = find("task", task.name).is_generative, find("decoder", decoder.name).is_generative
    if needed != can:
        fitting = ", ".join(key for key, one in components("decoder").items() if one.is_generative == needed)
        does = "generates" if can else "does not generate"
        problem = f"{decoder.name!r} {does} texts or images, and the task is {task.name}"
        raise RecipeError(f"outputs.{name}.decoder", f"{problem}; name one of {fitting}")
    supported = find("decoder", decoder.name).tasks
    if supported and task.name not in supported:
        problem = f"{decoder.name!r} supports only the task {' or '.join(supported)}, and the task is {task.name}"
        raise RecipeError(f"outputs.{name}.decoder", f"{problem}; name another decoder or another task")
    task = with_required_options(f"outputs.{name}.task", "decoder", task, decoder, recipe.size)
    return spec.model_copy(update={"task": task, "decoder": decoder})


def _reserve_prompts(name: str, spec: OutputSpec, samples: ColumnSamples, roles: list[ColumnRole]) -> None:
    """Give the role `prompt` to columns of prompts. They are not inputs unless the recipe lists them."""
    if spec.task is None or not find("task", spec.task.name).is_generative:
        return
    task = build("task", spec.task, f"outputs.{name}.task", columns=spec.columns)
    known = {role.column for role in roles if role.role != "ignored"}
    for column in task.prompt_columns:
        samples.check(column, f"outputs.{name}.task")
        if column in spec.columns:
            raise RecipeError(f"outputs.{name}.task", f"the prompt must not use the target column {column!r}")
        if column not in known:
            roles.append(ColumnRole(column, "prompt", "text", "used in the prompt", name))


def _infer_objectives(inputs: dict[str, InputSpec]) -> list[Options]:
    """The default objectives: alignment of several inputs, or masked modeling of a single input."""
    return [find("objective", "contrastive" if len(inputs) > 1 else "masked_modeling").Options()]


def _infer_fusion(inputs: dict[str, InputSpec], outputs: dict[str, OutputSpec], start: SourceModel | None) -> Options:
    """The default fusion: that of the first task, or else that of the source model, or else the general default."""
    first = next((spec.task for spec in outputs.values()), None)
    name = find("task", first.name).default_fusion if first is not None else None
    theirs = start.fusion(inputs) if start is not None else None
    if theirs is not None and name in (None, theirs.name):
        return theirs
    options: Options = find("fusion", name or DEFAULT_FUSION).Options()
    return options


def _complete_input(
    name: str,
    spec: InputSpec,
    recipe: Recipe,
    samples: ColumnSamples,
    roles: list[ColumnRole],
    start: SourceModel | None,
) -> InputSpec:
    for column in spec.columns:
        samples.check(column, f"inputs.{name}.columns")
    if start is not None and (completed := start.complete_input(name, spec)) is not None:
        roles += _source_model_roles(name, completed)
        return completed
    reason = "set in the recipe"
    modality = spec.modality
    if modality is None:
        kind, match = _best_match("modality", samples[spec.columns[0]])
        if match is None:
            raise RecipeError(
                f"inputs.{name}", f"cannot infer the modality of column {spec.columns[0]!r}; set `modality`"
            )
        modality, reason = find("modality", kind).Options(), match.reason
    component = find("modality", modality.name)
    if len(spec.columns) > 1 and not component.many_columns:
        raise RecipeError(
            f"inputs.{name}.columns", f"the modality {modality.name} reads one column; define one input for each column"
        )
    roles += [ColumnRole(column, "input", modality.name, reason, name) for column in spec.columns]
    encoder = spec.encoder or infer_encoder(modality.name, recipe, [samples[column] for column in spec.columns])
    modality = with_required_options(f"inputs.{name}.modality", "encoder", modality, encoder, recipe.size)
    modality = resolve_modality(name, modality, recipe.size, [samples[column] for column in spec.columns])
    return spec.model_copy(update={"modality": modality, "encoder": encoder})


def _source_model_roles(name: str, spec: InputSpec) -> list[ColumnRole]:
    assert spec.modality is not None
    kind, reason = spec.modality.name, "as in the model that training.init_from names"
    return [ColumnRole(column, "input", kind, reason, name) for column in spec.columns]


def infer_encoder(modality: str, recipe: Recipe, samples: Sequence[ColumnSample] = ()) -> Options:
    """The default encoder: a pretrained encoder if `recipe.pretrained` is set and there is one, or if the model has
    members and a checkpoint is installed.

    There is no starter checkpoint for video, so its frames are encoded as images.
    """
    pretrained = components("encoder").get(f"pretrained_{modality}")
    if modality == "video" and recipe.pretrained == "starter":
        video_encoder: Options = find("encoder", "frame_encoder").Options(
            frame_encoder={"name": "pretrained_image", "checkpoint": "starter"}
        )
        return video_encoder
    if recipe.pretrained != "none" and pretrained is not None:
        options: Options = pretrained.Options(checkpoint=recipe.pretrained)
        return options
    if (frozen := installed_encoder(modality, recipe, samples)) is not None:
        return frozen
    default: Options = find("encoder", find("modality", modality).default_encoder).Options()
    return default


def _infer_inputs(
    recipe: Recipe, samples: ColumnSamples, taken: set[str], roles: list[ColumnRole], start: SourceModel | None
) -> dict[str, InputSpec]:
    """The inferred inputs: one input for each media column, one for all numbers, and one for all categories.

    Inputs of the recipe keep their options. So does a column that is an input of the source model.
    """
    found: dict[str, list[tuple[str, str]]] = {}
    named = named_groups(recipe, samples.table.columns)
    own = {name: spec for name, spec in recipe.inputs.items() if name not in named}
    inputs = {name: _complete_input(name, spec, recipe, samples, roles, start) for name, spec in own.items()}
    taken = taken | {column for spec in inputs.values() for column in spec.columns}
    for column in samples.table.columns:
        if column in taken:
            continue
        sample = samples[column]
        kind, match = _best_match("modality", sample)
        known = start.input_of_column(column) if start is not None else None
        if known is not None and len(sample.values):
            inputs[column] = known.model_copy(update={"privileged": False})
            roles += _source_model_roles(column, known)
        elif len(sample.values) == 0:
            roles.append(ColumnRole(column, "ignored", "", "empty in all sampled rows"))
        elif sample.distinct == 1 and sample.nulls == 0:
            roles.append(ColumnRole(column, "ignored", "", "the same value in every sampled row"))
        elif match is None or match.confidence < MIN_CONFIDENCE:
            roles.append(ColumnRole(column, "ignored", "", match.reason if match else why_unmatched(sample)))
        else:
            found.setdefault(kind, []).append((column, match.reason))
    for kind, columns in found.items():
        component = find("modality", kind)
        shared = len(columns) > 1 and component.group_columns([samples[column] for column, _ in columns])
        groups = [columns] if shared else [[one] for one in columns]
        for group in groups:
            names = [column for column, _ in group]
            name = input_name(kind, names, samples.table.columns, inputs)
            if (given := named.pop(name, None)) is not None:
                options = given.modality or component.Options()
                given = given.model_copy(update={"columns": names, "modality": options})
                inputs[name] = _complete_input(name, given, recipe, samples, roles, start)
                continue
            bare = InputSpec(columns=names, modality=component.Options())
            if start is not None and (completed := start.complete_input(name, bare)) is not None:
                inputs[name] = completed
                roles += _source_model_roles(name, completed)
                continue
            encoder = infer_encoder(kind, recipe, [samples[column] for column in names])
            modality = with_required_options(
                f"inputs.{name}.modality", "encoder", component.Options(), encoder, recipe.size
            )
            modality = resolve_modality(name, modality, recipe.size, [samples[column] for column in names])
            inputs[name] = InputSpec(columns=names, modality=modality, encoder=encoder)
            roles += [ColumnRole(column, "input", kind, reason, name) for column, reason in group]
    refuse_unknown(named, inputs, samples.table.columns)
    return inputs if start is None else start.order_inputs(inputs)


def _best_match(kind: str, sample: ColumnSample) -> tuple[str, Match | None]:
    """The component of `kind` with the highest confidence for a column; ties go to the first name."""
    matches: list[tuple[str, Match]] = []
    for name, component in components(kind).items():
        match: Any = component.match_column(sample) if sample.values else None
        if match is not None:
            matches.append((name, match))
    if not matches:
        return "", None
    return max(matches, key=lambda pair: pair[1].confidence)
