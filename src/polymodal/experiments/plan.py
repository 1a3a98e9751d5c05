"""From a table and a recipe with gaps to a complete recipe: what each column is, and why."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from polymodal.core.errors import DataError, RecipeError, did_you_mean
from polymodal.core.options import Options, Size, SizedModel
from polymodal.core.registry import build, components, find
from polymodal.data.table.sample import ColumnSample, Match
from polymodal.data.table.table import Table
from polymodal.model.run_record import ColumnRole
from polymodal.recipe.data import LimitOptions
from polymodal.recipe.recipe import DEFAULT_FUSION, InputSpec, OutputSpec, Recipe
from polymodal.runtime.compute import resolve_device
from polymodal.training.source_model import SourceModel

#: Below this confidence a column is left out rather than guessed at.
MIN_CONFIDENCE = 0.3


@dataclass(frozen=True)
class Plan:
    """A complete recipe and the role of every column of the table."""

    recipe: Recipe
    roles: list[ColumnRole]


def make_plan(table: Table, recipe: Recipe, targets: list[str] | None = None, *, pretraining: bool = False) -> Plan:
    """Fill every gap of `recipe` from a sample of `table`; what the recipe says is never changed.

    pretraining: there is no target; where the recipe names no objective, the inputs are aligned with each other, or, if
        there is but one, masked and reconstructed

    Raises:
        RecipeError: a column is not in the table, serves twice, or cannot be what the recipe says.
        DataError: no input or no target is left.
    """
    resolve_device(recipe.training.device)  # said now, before any row is prepared
    start = SourceModel.from_recipe(recipe)
    if start is not None:
        recipe = start.complete_recipe(recipe)
    samples = _Samples(table, recipe.data.limits)
    outputs = {name: spec.model_copy() for name, spec in recipe.outputs.items()}
    for target in targets or []:
        if not any(target in spec.columns for spec in outputs.values()):
            outputs[target] = OutputSpec(columns=[target])
    if not outputs and not recipe.objectives and not pretraining:
        raise RecipeError(
            "outputs", "say what to predict (a target column, or outputs), or what to learn without it (objectives)"
        )
    roles: list[ColumnRole] = []
    for name, spec in outputs.items():
        spec = spec if start is None else start.complete_output(name, spec)
        outputs[name] = _complete_output(name, spec, recipe, samples, roles)
    reserved = {role.column for role in roles}
    for path, column in (
        ("data.weight", recipe.data.weight_column),
        ("data.split.column", recipe.data.split.column),
        ("data.split.group", recipe.data.split.group_column),
    ):
        if column is None:
            continue
        samples.check(column, path)
        if column not in {c for spec in recipe.inputs.values() for c in spec.columns} | reserved:
            roles.append(ColumnRole(column, path.split(".")[-1], "", f"{path} names it"))
    for column in recipe.data.ignore_columns:
        samples.check(column, "data.ignore")
        roles.append(ColumnRole(column, "ignored", "", "data.ignore names it"))
    for name, spec in outputs.items():
        _reserve_prompts(name, spec, samples, roles)
    taken = {role.column for role in roles}
    if recipe.inputs:
        inputs = {
            name: _complete_input(name, given, recipe, samples, roles, start) for name, given in recipe.inputs.items()
        }
        used = {role.column for role in roles}
        roles += [ColumnRole(c, "ignored", "", "not among the recipe's inputs") for c in table.columns if c not in used]
    else:
        inputs = _infer_inputs(recipe, samples, taken, roles, start)
    if start is not None:
        start.check_inputs(inputs)
    for name, one in inputs.items():
        shared = [column for column in one.columns if column in reserved]
        if shared:
            raise RecipeError(f"inputs.{name}.columns", f"{shared[0]!r} is a target and cannot be an input as well")
    timed = [name for name, spec in outputs.items() if spec.task is not None and find("task", spec.task.name).needs_timestamps]
    if timed:
        for name, one in inputs.items():
            inputs[name] = _with_time_preserved(name, one, recipe.inputs.get(name), timed[0])
    writes = {name: find("task", spec.task.name).is_generative for name, spec in outputs.items() if spec.task is not None}
    writes_only = all(writes.values())
    if any(writes.values()) and (taught := [name for name, one in inputs.items() if one.privileged]):
        raise RecipeError(f"inputs.{taught[0]}.privileged", "a teacher teaches decisions, and texts are not decisions")
    if inputs and all(one.privileged for one in inputs.values()):
        raise RecipeError(f"inputs.{next(iter(inputs))}.privileged", "a model needs one input that is not privileged")
    if not inputs and not (outputs and writes_only):
        raise DataError(
            "no column can serve as an input: "
            + "; ".join(f"{r.column}: {r.reason}" for r in roles if r.role == "ignored"),
            file=table.name,
        )
    objectives = recipe.objectives or (_infer_objectives(inputs) if pretraining else [])
    complete = recipe.model_copy(update={"inputs": inputs, "outputs": outputs, "objectives": objectives})
    if inputs and complete.uses_fusion:
        complete = complete.model_copy(update={"fusion": recipe.fusion or _infer_fusion(inputs, outputs, start)})
    complete = complete.with_size_defaults()
    try:
        complete.check_components()
    except RecipeError as error:
        left_out = [f"{role.column}: {role.reason}" for role in roles if role.role == "ignored" and not recipe.inputs]
        if error.path.startswith("objectives.") and error.path.endswith(".inputs") and left_out:
            raise RecipeError(error.path, f"{error.problem}; no inputs are {'; '.join(left_out)}") from None
        raise
    order = {column: place for place, column in enumerate(table.columns)}
    return Plan(complete, sorted(roles, key=lambda role: order[role.column]))


def complete_schedule(recipe: Recipe, training_rows: int) -> Recipe:
    """Fill the parts of `training` that follow from the number of training rows: batch, epochs and patience."""
    options = recipe.training
    batch = options.batch_size or min(256, max(16, 2 ** round(math.log2(max(1, training_rows / 30)))))
    steps = max(1, math.ceil(training_rows / batch))
    epochs = min(200, max(10, round(1500 / steps))) if options.epochs is None else options.epochs
    patience = options.early_stopping_patience or max(5, epochs // 2)
    filled = options.model_copy(update={"batch_size": batch, "epochs": epochs, "early_stopping_patience": patience})
    return recipe.model_copy(update={"training": filled})


class _Samples:
    """Samples of the table's columns, each taken once."""

    def __init__(self, table: Table, limits: LimitOptions) -> None:
        self.table, self.limits, self._taken = table, limits, {}  # type: ignore[var-annotated]

    def __getitem__(self, column: str) -> ColumnSample:
        if column not in self._taken:
            self._taken[column] = replace(self.table.sample(column), limits=self.limits)
        return self._taken[column]

    def check(self, column: str, path: str) -> None:
        if column not in self.table.columns:
            hint = did_you_mean(column, self.table.columns)
            raise RecipeError(path, f"the table {self.table.name} has no column {column!r}; {hint}")


def _complete_output(name: str, spec: OutputSpec, recipe: Recipe, samples: _Samples, roles: list[ColumnRole]) -> OutputSpec:
    for column in spec.columns:
        samples.check(column, f"outputs.{name}.columns")
    task: Options
    if spec.task is not None:
        task, reason = spec.task, "the recipe says so"
    else:
        first = samples[spec.columns[0]]
        if len(first.values) == 0:
            raise DataError("the target has no value in any sampled row", column=first.name, file=samples.table.name)
        kind, guess = _best_match("task", first)
        if guess is None:
            raise DataError(
                f"no task fits this target (values such as {first.values[0]!r}); name one in outputs.{name}.task",
                column=first.name,
                file=samples.table.name,
            )
        task, reason = find("task", kind).Options(), guess.reason
    roles += [ColumnRole(column, "target", task.name, reason, name) for column in spec.columns]
    decoder = spec.decoder or find("decoder", find("task", task.name).default_decoder).Options()
    writes, can = find("task", task.name).is_generative, find("decoder", decoder.name).is_generative
    if writes != can:
        fitting = ", ".join(key for key, one in components("decoder").items() if one.is_generative == writes)
        problem = f"{decoder.name!r} {'writes texts' if can else 'does not write'}, and the task is {task.name}"
        raise RecipeError(f"outputs.{name}.decoder", f"{problem}; name one of {fitting}")
    serves = find("decoder", decoder.name).tasks
    if serves and task.name not in serves:
        problem = f"{decoder.name!r} serves the task {' or '.join(serves)}, and the task is {task.name}"
        raise RecipeError(f"outputs.{name}.decoder", f"{problem}; name another decoder or another task")
    task = _with_required_options(f"outputs.{name}.task", "decoder", task, decoder, recipe.size)
    return spec.model_copy(update={"task": task, "decoder": decoder})


def _reserve_prompts(name: str, spec: OutputSpec, samples: _Samples, roles: list[ColumnRole]) -> None:
    """Columns that prompts name are read there, and are no inputs unless the recipe says so."""
    if spec.task is None or not find("task", spec.task.name).is_generative:
        return
    task = build("task", spec.task, f"outputs.{name}.task", columns=spec.columns)
    known = {role.column for role in roles}
    for column in task.prompt_columns:
        samples.check(column, f"outputs.{name}.task")
        if column in spec.columns:
            raise RecipeError(f"outputs.{name}.task", f"the prompt reads {column!r}, which is the target itself")
        if column not in known:
            roles.append(ColumnRole(column, "prompt", "text", "the prompt names it", name))


def _infer_objectives(inputs: dict[str, InputSpec]) -> list[Options]:
    """What is learned from the inputs where nothing is said: which belong together, or what a lone one holds."""
    return [find("objective", "contrastive" if len(inputs) > 1 else "masked_modeling").Options()]


def _infer_fusion(inputs: dict[str, InputSpec], outputs: dict[str, OutputSpec], start: SourceModel | None) -> Options:
    """The fusion where the recipe names none: the one that the first output's task is best served by, or else that of
    the model that is gone on from."""
    first = next((spec.task for spec in outputs.values()), None)
    name = find("task", first.name).default_fusion if first is not None else None
    theirs = start.fusion(inputs) if start is not None else None
    if theirs is not None and name in (None, theirs.name):
        return theirs
    options: Options = find("fusion", name or DEFAULT_FUSION).Options()
    return options


def _complete_input(
    name: str, spec: InputSpec, recipe: Recipe, samples: _Samples, roles: list[ColumnRole], start: SourceModel | None
) -> InputSpec:
    for column in spec.columns:
        samples.check(column, f"inputs.{name}.columns")
    if start is not None and (carried := start.complete_input(name, spec)) is not None:
        roles += _source_model_roles(name, carried)
        return carried
    reason = "the recipe says so"
    modality = spec.modality
    if modality is None:
        kind, guess = _best_match("modality", samples[spec.columns[0]])
        if guess is None:
            raise RecipeError(f"inputs.{name}", "its modality cannot be told from the data; name one")
        modality, reason = find("modality", kind).Options(), guess.reason
    component = find("modality", modality.name)
    if len(spec.columns) > 1 and not component.many_columns:
        raise RecipeError(
            f"inputs.{name}.columns", f"an input of {modality.name} reads one column; make an input of each"
        )
    roles += [ColumnRole(column, "input", modality.name, reason, name) for column in spec.columns]
    encoder = spec.encoder or infer_encoder(modality.name, recipe)
    modality = _with_required_options(f"inputs.{name}.modality", "encoder", modality, encoder, recipe.size)
    modality = _resolve_modality(name, modality, recipe.size, [samples[column] for column in spec.columns])
    return spec.model_copy(update={"modality": modality, "encoder": encoder})


def _source_model_roles(name: str, spec: InputSpec) -> list[ColumnRole]:
    assert spec.modality is not None
    kind, reason = spec.modality.name, "as in the model that training.start names"
    return [ColumnRole(column, "input", kind, reason, name) for column in spec.columns]


def infer_encoder(modality: str, recipe: Recipe) -> Options:
    """The encoder where the recipe names none: a pretrained one if the recipe wants that and there is one.

    No starter checkpoint reads clips: their frames are read as images.
    """
    pretrained = components("encoder").get(f"pretrained_{modality}")
    if modality == "video" and recipe.pretrained == "starter":
        clip: Options = find("encoder", "frame_encoder").Options(frame_encoder={"name": "pretrained_image", "checkpoint": "starter"})
        return clip
    if recipe.pretrained != "none" and pretrained is not None:
        options: Options = pretrained.Options(model=recipe.pretrained)
        return options
    silent: Options = find("encoder", find("modality", modality).default_encoder).Options()
    return silent


def _with_required_options(path: str, kind: str, prepared: Options, network: Options, size: Size) -> Options:
    """The modality (or task) at `path` with the options that its encoder (or decoder) needs it to have.

    Raises:
        RecipeError: the recipe itself says otherwise.
    """
    at_size = network.at_size(size) if isinstance(network, SizedModel) else network
    wanted = find(kind, network.name).required_options(at_size)
    for option, value in wanted.items():
        if option in prepared.model_fields_set and getattr(prepared, option) != value:
            raise RecipeError(
                f"{path}.{option}",
                f"the {kind} {network.name} needs {value!r} here; leave it out, or name another {kind}",
            )
    return prepared.model_copy(update=wanted) if wanted else prepared


def _with_time_preserved(name: str, spec: InputSpec, given: InputSpec | None, output: str) -> InputSpec:
    """The input with nothing in it that moves moments away from the events of `output`.

    Raises:
        RecipeError: the recipe itself asks for what moves them.
    """
    modality = spec.modality
    assert modality is not None
    asked = given.modality.model_fields_set if given is not None and given.modality is not None else set()
    still = find("modality", modality.name).still
    for option, value in still.items():
        if option in asked and getattr(modality, option) != value:
            raise RecipeError(
                f"inputs.{name}.modality.{option}",
                f"it moves moments away from where the events of {output!r} have them; leave it out or set it to "
                f"{'null' if value is None else str(value).lower()}",
            )
    return spec.model_copy(update={"modality": modality.model_copy(update=still)}) if still else spec


def _infer_inputs(
    recipe: Recipe, samples: _Samples, taken: set[str], roles: list[ColumnRole], start: SourceModel | None
) -> dict[str, InputSpec]:
    """One input per media column; all numbers together as one input, and all categories. A column that the model to go
    on from reads by itself is what it is there."""
    found: dict[str, list[tuple[str, str]]] = {}
    inputs: dict[str, InputSpec] = {}
    for column in samples.table.columns:
        if column in taken:
            continue
        sample = samples[column]
        kind, guess = _best_match("modality", sample)
        known = start.input_of_column(column) if start is not None else None
        if known is not None and len(sample.values):
            inputs[column] = known.model_copy(update={"privileged": False})
            roles += _source_model_roles(column, known)
        elif len(sample.values) == 0:
            roles.append(ColumnRole(column, "ignored", "", "no value in any sampled row"))
        elif sample.distinct == 1 and sample.nulls == 0:
            roles.append(ColumnRole(column, "ignored", "", "the same value in every sampled row"))
        elif guess is None or guess.confidence < MIN_CONFIDENCE:
            roles.append(ColumnRole(column, "ignored", "", guess.reason if guess else "no modality fits its values"))
        else:
            found.setdefault(kind, []).append((column, guess.reason))
    for kind, columns in found.items():
        component = find("modality", kind)
        shared = len(columns) > 1 and component.together([samples[column] for column, _ in columns])
        groups = [columns] if shared else [[one] for one in columns]
        for group in groups:
            names = [column for column, _ in group]
            name = (
                names[0]
                if len(names) == 1
                else _free_name({"number": "numbers", "category": "categories"}.get(kind, kind), samples, inputs)
            )
            bare = InputSpec(columns=names, modality=component.Options())
            if start is not None and (carried := start.complete_input(name, bare)) is not None:
                inputs[name] = carried
                roles += _source_model_roles(name, carried)
                continue
            encoder = infer_encoder(kind, recipe)
            modality = _with_required_options(f"inputs.{name}.modality", "encoder", component.Options(), encoder, recipe.size)
            modality = _resolve_modality(name, modality, recipe.size, [samples[column] for column in names])
            inputs[name] = InputSpec(columns=names, modality=modality, encoder=encoder)
            roles += [ColumnRole(column, "input", kind, reason, name) for column, reason in group]
    return inputs if start is None else start.order_inputs(inputs)


def _resolve_modality(name: str, modality: Options, size: Size, samples: list[ColumnSample]) -> Options:
    """The options with what follows from the size dial, then with what follows from the data.

    Raises:
        RecipeError: an option cannot be so, or a checkpoint is not reached.
    """
    at_size = modality.at_size(size) if isinstance(modality, SizedModel) else modality
    try:
        resolved: Options = find("modality", modality.name).resolve(at_size, samples)
    except RecipeError as error:
        raise error.with_prefix(f"inputs.{name}.modality") from None
    return resolved


def _best_match(kind: str, sample: ColumnSample) -> tuple[str, Match | None]:
    """The component of `kind` that is surest of the column; ties go to the first by name."""
    guesses: list[tuple[str, Match]] = []
    for name, component in components(kind).items():
        guess: Any = component.match_column(sample) if sample.values else None
        if guess is not None:
            guesses.append((name, guess))
    if not guesses:
        return "", None
    return max(guesses, key=lambda pair: pair[1].confidence)


def _free_name(wanted: str, samples: _Samples, inputs: dict[str, InputSpec]) -> str:
    name = wanted
    while name in inputs or name in samples.table.columns:
        name += "_"
    return name
