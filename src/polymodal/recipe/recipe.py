"""The recipe: the declarative description of a model and its training."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, SerializeAsAny, ValidationError, field_validator, model_validator

from polymodal.core.argument_types import check_arguments
from polymodal.core.errors import RecipeError, did_you_mean
from polymodal.core.formatting import escape_controls
from polymodal.core.needs import Needs
from polymodal.core.options import MAX_SEED, Names, Options, Size, SizedModel, StrictModel, explicit_values, sized_field
from polymodal.core.yaml_json import TextFormatError, read_json, read_yaml, write_yaml
from polymodal.recipe.data import DataOptions
from polymodal.recipe.ensemble import MEMBERS, EnsembleOptions, Quality
from polymodal.recipe.evaluation import EvaluationOptions
from polymodal.recipe.shipped import recipe_file
from polymodal.recipe.slots import Slot
from polymodal.recipe.training import TrainingOptions
from polymodal.recipe.validation_errors import recipe_error

DEFAULT_FUSION = "concat"
DEFAULT_DECODER = "mlp"
#: Name of the input with the task token, if the recipe has `task_tokens`.
TASK_INPUT = "task"


class InputSpec(StrictModel):
    """One input of the model. Unset keys are inferred from the data."""

    columns: Names = []
    """Table columns of this input. Default: the column with the name of the input."""
    modality: Annotated[SerializeAsAny[Options], Slot("modality")] | None = None
    """Modality of the data, with the options of its preprocessing. Default: inferred."""
    encoder: Annotated[SerializeAsAny[Options], Slot("encoder")] | None = None
    """Encoder network. Default: that of the modality."""
    features: Annotated[list[Annotated[SerializeAsAny[Options], Slot("featurizer")]] | None, MEMBERS] = None
    """Features of this input for estimators. Default: those of the modality."""
    privileged: Annotated[bool, Needs("outputs", lambda _, run: bool(run.outputs))] = False
    """Whether only the training rows have this input. A teacher with it is then distilled into a model without it."""


class OutputSpec(StrictModel):
    """One target of the model. Unset keys are inferred from the data."""

    columns: Names = []
    """Target columns. Default: the column with the name of the output."""
    task: Annotated[SerializeAsAny[Options], Slot("task")] | None = None
    """Task of the target. Default: inferred."""
    decoder: Annotated[SerializeAsAny[Options], Slot("decoder", DEFAULT_DECODER)] | None = None
    """Decoder network. Default: `mlp`."""
    loss_weight: Annotated[float, Needs("several outputs or objectives", lambda _, run: run.num_losses > 1)] = Field(
        default=1.0, gt=0
    )
    """Weight of the loss of this output."""


class Recipe(SizedModel):
    """A model and its training. Unset keys are inferred from the data.

    An unknown key, or an option that the chosen component does not have, raises a `RecipeError` with the path and the
    nearest valid key.

    Example:
        >>> import polymodal
        >>> recipe = polymodal.Recipe(fusion={"name": "gated"}, training={"epochs": 5})
        >>> recipe.fusion.name, recipe.training.epochs
        ('gated', 5)
    """

    inputs: dict[str, InputSpec] = {}
    """Inputs by name. Default: all usable columns that are not targets."""
    fusion: Annotated[SerializeAsAny[Options], Slot("fusion", DEFAULT_FUSION)] | None = None
    """Fusion of the inputs. Default: `concat`."""
    outputs: dict[str, OutputSpec] = {}
    """Targets by name."""
    objectives: list[Annotated[SerializeAsAny[Options], Slot("objective")]] = []
    """Self-supervised objectives: for `pretrain`, or in addition to the outputs."""
    task_tokens: Annotated[bool, Needs("outputs", lambda _, run: bool(run.outputs))] = False
    """Give the fusion a learned token for each output, in addition to the inputs. The fusion then runs once per output.
    Only for feature-level fusions."""
    size: Size = "tiny"
    """Preset for all unset widths, depths and learning rates."""
    pretrained: Annotated[
        Literal["none", "starter", "fast", "balanced", "best"],
        Needs("a text, image, audio or video input without a set encoder", lambda own, run: run.uses_preset),
    ] = "none"
    """Pretrained checkpoints for text, image, audio and video inputs without a set encoder."""
    hidden_size: int = sized_field(96, 192, 384, ge=4, le=65_536)
    """Width of the tokens of the fusion."""
    quality: Quality | None = None
    """Members of the model. `fast`: linear models and boosted trees. `balanced`: also kernels and, where media decide,
    a network. `best`: all of them, with more folds. The result is one model. Default: `balanced`; a network alone if
    a key is set that only concerns a network (`fusion`, an encoder, `training.epochs`)."""
    members: list[Annotated[SerializeAsAny[Options], Slot("estimator")]] | None = None
    """Estimators that are fitted, compared and combined, beside the network. Default: by `quality`."""
    network: bool | None = None
    """Whether a network is trained. Default: by `quality`."""
    ensemble: EnsembleOptions = EnsembleOptions()
    time_limit: float | None = Field(default=None, gt=0)
    """Seconds for a run with its preparation and scores. A network is then trained for fewer epochs, and members that
    come last are left out. Default: none."""
    seed: int = Field(default=0, ge=0, le=MAX_SEED)
    """Random seed of splits, initial weights, order of rows, dropout and augmentation."""
    data: DataOptions = DataOptions()
    training: TrainingOptions = TrainingOptions()
    evaluation: EvaluationOptions = EvaluationOptions()

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise recipe_error(type(self), error) from None

    def __repr__(self) -> str:
        of = ", ".join(self.inputs) or "all columns"
        quality = f", quality {self.quality}" if self.quality else ""
        return f"<polymodal.Recipe of {of} -> {', '.join(self.outputs) or 'no target'}{quality}>"

    def __str__(self) -> str:
        return repr(self)

    def _repr_html_(self) -> str:
        return f"<pre>{escape(self.to_yaml())}</pre>"

    @field_validator("inputs", "outputs", mode="before")
    @classmethod
    def _short_forms(cls, value: Any, info: Any) -> Any:
        """`question: text` stands for `question: {modality: text}`, `price: regression` for `price: {task:
        regression}`."""
        if not isinstance(value, dict):
            return value
        for name in value:
            if isinstance(name, str) and any("\ud800" <= character <= "\udfff" for character in name):
                raise ValueError(f"the name {name!a} holds half a character (a lone surrogate)")
        key = "modality" if info.field_name == "inputs" else "task"
        return {name: {key: spec} if isinstance(spec, str) else spec or {} for name, spec in value.items()}

    @model_validator(mode="after")
    def _columns_default_to_names(self) -> Self:
        specs: list[tuple[str, InputSpec | OutputSpec]] = [*self.inputs.items(), *self.outputs.items()]
        for name, spec in specs:
            if not spec.columns:
                spec.columns = [name]
        return self

    @classmethod
    @check_arguments
    def read(
        cls, source: Path | str | dict[str, Any], settings: Sequence[str] | Mapping[str, Any] | None = None
    ) -> Recipe:
        """Read a recipe from a YAML or JSON file, the name of a shipped recipe, or a mapping.

        settings: settings that replace recipe keys: `a.b=c` texts, or a mapping such as `{"training.epochs": 5}`

        Raises:
            RecipeError: the file does not exist or holds no mapping, or a key or value is wrong.
        """
        from polymodal.recipe.overrides import apply_overrides

        values = source if isinstance(source, dict) else read_mapping(recipe_file(source))
        if unknown := next((key for key in values if not isinstance(key, str)), None):
            raise RecipeError("", f"a recipe key must be a text, not {unknown!r}")
        recipe = cls(**apply_overrides(values, settings or []))
        if recipe.size != values.get("size", cls.model_fields["size"].default) and not recipe._depends_on_size():
            raise RecipeError(
                "size", "it sets only unset keys, and the recipe sets all of them; remove those keys, or change them"
            )
        return recipe

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain values, with all keys."""
        return self.model_dump(mode="json")

    def explicit_values(self) -> dict[str, Any]:
        """The explicitly set keys as plain values; unset keys still depend on the data and the size."""
        values: dict[str, Any] = explicit_values(self)
        return values

    def to_yaml(self) -> str:
        """The recipe as YAML, with all keys. Letters are written as they are, unless there are control characters."""
        text = write_yaml(self.to_dict())
        return text if escape_controls(text, "\n") == text else write_yaml(self.to_dict(), allow_unicode=False)

    def to_json(self) -> str:
        """The recipe as one line of JSON, with all keys: to compare and to hash, in a fraction of the time of YAML."""
        return json.dumps(self.to_dict())

    def with_size_defaults(self) -> Recipe:
        """A copy with all defaults that depend on `size` filled in, also those of components."""
        sections: dict[str, Any] = {"training": self.training.at_size(self.size)}
        if isinstance(self.fusion, SizedModel):
            sections["fusion"] = self.fusion.at_size(self.size)
        sections["objectives"] = [
            one.at_size(self.size) if isinstance(one, SizedModel) else one for one in self.objectives
        ]
        for kind in ("inputs", "outputs"):
            specs = {}
            for name, spec in getattr(self, kind).items():
                parts = {key: value.at_size(self.size) for key, value in spec if isinstance(value, SizedModel)}
                specs[name] = spec.model_copy(update=parts)
            sections[kind] = specs
        return self.at_size(self.size).model_copy(update=sections)

    def _depends_on_size(self) -> bool:
        """Whether a key that depends on `size` is unset."""
        inputs, outputs = self.inputs.values(), self.outputs.values()
        if not inputs or not (outputs or self.objectives) or self.fusion is None:
            return True
        parts = [(spec.modality, spec.encoder) for spec in inputs] + [(spec.task, spec.decoder) for spec in outputs]
        if any(part is None for pair in parts for part in pair):
            return True
        filled = [self.model_copy(update={"size": size}).with_size_defaults() for size in get_args(Size)]
        return any(one.model_copy(update={"size": filled[0].size}) != filled[0] for one in filled)

    def check_components(self) -> None:
        """Check a complete recipe: encoders match their modality, outputs and objectives have names of their own, and
        paths in `training.param_groups` exist.

        Raises:
            RecipeError: with the path of the first wrong key.
        """
        for name, spec in self.inputs.items():
            if spec.encoder is None or spec.modality is None:
                continue
            reads = spec.encoder.component.modality  # type: ignore[attr-defined]
            if reads != spec.modality.name:
                raise RecipeError(
                    f"inputs.{name}.encoder",
                    f"the encoder {spec.encoder.name!r} is for {reads}, but this input is {spec.modality.name}",
                )
        modalities = {name: spec.modality.name for name, spec in self.inputs.items() if spec.modality is not None}
        for index, options in enumerate(self.objectives):
            try:
                options.component.check_options(options, modalities)  # type: ignore[attr-defined]
            except RecipeError as error:
                raise error.with_prefix(f"objectives.{index}") from None
        for name in self.outputs:
            for options in self.objectives:
                if name == options.name or name.startswith(f"{options.name}."):
                    raise RecipeError(
                        f"outputs.{name}",
                        f"the losses of this output and of the objective {options.name!r} would have one name; give "
                        f"the output another name, and its column as columns: [{name}]",
                    )
        if self.task_tokens and self.outputs:
            self._check_task_tokens()
        known = self.param_group_paths()
        for part in self.training.param_groups:
            if part not in known:
                raise RecipeError(
                    f"training.param_groups.{part}", f"there is no such part; {did_you_mean(part, known)}"
                )

    def _check_task_tokens(self) -> None:
        """Raises RecipeError if the fusion does not support task tokens."""
        if self.fusion is not None and self.fusion.component.level != "feature":  # type: ignore[attr-defined]
            raise RecipeError(
                "task_tokens",
                f"the fusion {self.fusion.name!r} combines predictions of single inputs and cannot use task tokens; "
                "choose a feature-level fusion, or set it to false",
            )
        if TASK_INPUT in self.inputs:
            raise RecipeError(f"inputs.{TASK_INPUT}", "task_tokens adds an input with this name; rename your input")

    @property
    def privileged(self) -> list[str]:
        """The inputs that only the training rows have."""
        return [name for name, spec in self.inputs.items() if spec.privileged]

    @check_arguments
    def with_inputs(self, names: list[str]) -> Recipe:
        """A copy with some of the inputs, with their parameter groups and the objectives that need no other input.

        Raises:
            RecipeError: there is no such input.
        """
        for name in names:
            if name not in self.inputs:
                raise RecipeError("inputs", f"there is no input {name!r}; {did_you_mean(name, self.inputs)}")
        left_out = [name for name in self.inputs if name not in names]
        parts = {
            path: value
            for path, value in self.training.param_groups.items()
            if not any(path in (f"inputs.{name}", f"inputs.{name}.encoder") for name in left_out)
        }
        training = self.training.model_copy(update={"param_groups": parts})
        kept = {name: self.inputs[name] for name in names}
        modalities = {name: spec.modality.name for name, spec in kept.items() if spec.modality is not None}
        objectives = [options for options in self.objectives if _serves(options, modalities)]
        changed: dict[str, Any] = {"inputs": kept, "training": training, "objectives": objectives}
        if self.members:
            changed["members"] = _members_of(self.members, names)
        return self.model_copy(update=changed)

    def param_group_paths(self) -> list[str]:
        """Recipe paths of the trainable parts, for `training.param_groups`."""
        inputs = [path for name in self.inputs for path in (f"inputs.{name}", f"inputs.{name}.encoder")]
        objectives = [f"objectives.{index}" for index in range(len(self.objectives))]
        return [*inputs, "fusion", *(f"outputs.{name}" for name in self.outputs), *objectives]

    @property
    def uses_fusion(self) -> bool:
        """Whether an output or an objective uses the output of the fusion."""
        return bool(self.outputs) or any(options.component.uses_fusion for options in self.objectives)  # type: ignore[attr-defined]


def _members_of(members: Sequence[Any], names: list[str]) -> list[Any]:
    """The members that read some of the inputs `names`, with these inputs only; equal members once. If all read other
    inputs, the same estimators of these inputs."""
    kept: list[Any] = []
    some = [one for one in members if not one.inputs or not set(names).isdisjoint(one.inputs)]
    for options in some or members:
        inputs = [name for name in options.inputs if name in names]
        one = options.model_copy(update={"inputs": [] if len(inputs) == len(names) else inputs})
        if one not in kept:
            kept.append(one)
    return kept


def _serves(options: Any, modalities: dict[str, str]) -> bool:
    """Whether an objective can be computed with these inputs, by name and modality."""
    try:
        options.component.check_options(options, modalities)
    except RecipeError:
        return False
    return True


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a mapping from a YAML or JSON file.

    Raises:
        RecipeError: the file does not exist, cannot be read, has a key twice, or holds no mapping.
    """
    if not path.is_file():
        raise RecipeError("", f"the recipe file {path} does not exist")
    try:
        text = path.read_text(encoding="utf-8")
        values = read_json(text) if path.suffix == ".json" else read_yaml(text)
    except (OSError, UnicodeDecodeError, TextFormatError) as error:
        raise RecipeError("", f"the file {path} cannot be read: {error}") from None
    if not isinstance(values, dict):
        raise RecipeError("", f"{path} must hold a mapping with keys such as inputs, fusion, outputs")
    return values
