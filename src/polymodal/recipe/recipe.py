"""The recipe: the declarative description of a model and its training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, SerializeAsAny, ValidationError, field_validator, model_validator

from polymodal.core.errors import RecipeError, did_you_mean
from polymodal.core.options import Options, Size, SizedModel, StrictModel, explicit_values, sized_field
from polymodal.recipe.data import DataOptions
from polymodal.recipe.evaluation import EvaluationOptions
from polymodal.recipe.shipped import recipe_file
from polymodal.recipe.slots import Slot
from polymodal.recipe.training import TrainingOptions
from polymodal.recipe.validation_errors import recipe_error

DEFAULT_FUSION = "concat"
DEFAULT_DECODER = "mlp"
#: The name of the input that stands for the output which is asked for, where the recipe has `task_tokens`.
TASK_INPUT = "task"


class InputSpec(StrictModel):
    """One input of the model. What is silent is inferred from the data."""

    columns: list[str] = []
    """The table's columns that this input reads; silent: the column with the input's name."""
    modality: Annotated[SerializeAsAny[Options], Slot("modality")] | None = None
    """The kind of data, with the options of its preparation."""
    encoder: Annotated[SerializeAsAny[Options], Slot("encoder")] | None = None
    """The network that reads it; silent: the modality's default."""
    privileged: bool = False
    """Only the training rows have this input: a teacher that sees it teaches a model that does without."""


class OutputSpec(StrictModel):
    """One target of the model. What is silent is inferred from the data."""

    columns: list[str] = []
    """The target columns; silent: the column with the output's name."""
    task: Annotated[SerializeAsAny[Options], Slot("task")] | None = None
    """The kind of target."""
    decoder: Annotated[SerializeAsAny[Options], Slot("decoder", DEFAULT_DECODER)] | None = None
    """The network that answers; silent: `mlp`."""
    loss_weight: float = Field(default=1.0, gt=0)
    """Weight of this output's loss among several."""


class Recipe(SizedModel):
    """A model and its training, in full or with gaps that inference fills.

    Keys are strict: an unknown key, or an option that the chosen component does not have, is a `RecipeError` that
    names the path and the nearest valid key.
    """

    inputs: dict[str, InputSpec] = {}
    """The inputs by name; silent: every usable column that is not a target."""
    fusion: Annotated[SerializeAsAny[Options], Slot("fusion", DEFAULT_FUSION)] | None = None
    """How the inputs are fused; silent: `concat`."""
    outputs: dict[str, OutputSpec] = {}
    """The targets by name."""
    objectives: list[Annotated[SerializeAsAny[Options], Slot("objective")]] = []
    """What is learned from the inputs themselves: alone in `pretrain`, or beside the outputs."""
    task_tokens: bool = False
    """Tell the fusion which output is asked for: it reads a learned token of that output beside the inputs, and runs
    once for each output. For feature-level fusions."""
    size: Size = "tiny"
    """One dial for every width, depth and rate that is not said."""
    pretrained: Literal["none", "starter", "fast", "balanced", "best"] = "none"
    """Read every text, image, sound and clip whose encoder is silent with a pretrained checkpoint of this preset."""
    hidden_size: int = sized_field(96, 192, 384, ge=4)
    """Width of the tokens in which the inputs meet."""
    seed: int = Field(default=0, ge=0)
    """Seed of everything random: splits, initial weights, order of rows, dropout, augmentation."""
    data: DataOptions = DataOptions()
    training: TrainingOptions = TrainingOptions()
    evaluation: EvaluationOptions = EvaluationOptions()

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise recipe_error(type(self), error) from None

    @field_validator("inputs", "outputs", mode="before")
    @classmethod
    def _short_forms(cls, value: Any, info: Any) -> Any:
        """`question: text` stands for `question: {modality: text}`; `price: regress` for `price: {task: regress}`."""
        if not isinstance(value, dict):
            return value
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
    def read(cls, source: Path | str | dict[str, Any], overrides: list[str] | None = None) -> Recipe:
        """A recipe from a YAML or JSON file, the name of a shipped recipe, or a mapping; `overrides` are `a.b=c`
        settings on top of it.

        Raises:
            RecipeError: the file is not there or is not a mapping, or a key or value is wrong.
        """
        from polymodal.recipe.overrides import apply_overrides

        values = source if isinstance(source, dict) else read_mapping(recipe_file(source))
        return cls(**apply_overrides(values, overrides or []))

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain values, with every key."""
        return self.model_dump(mode="json")

    def given(self) -> dict[str, Any]:
        """What was said of the recipe, as plain values: what is silent still follows from the data and the size."""
        said: dict[str, Any] = explicit_values(self)
        return said

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True, width=110)

    def at_dial(self) -> Recipe:
        """A copy in which every value that follows from `size` is filled in, in components too."""
        sections: dict[str, Any] = {"training": self.training.at_size(self.size)}
        if isinstance(self.fusion, SizedModel):
            sections["fusion"] = self.fusion.at_size(self.size)
        sections["objectives"] = [one.at_size(self.size) if isinstance(one, SizedModel) else one for one in self.objectives]
        for kind in ("inputs", "outputs"):
            specs = {}
            for name, spec in getattr(self, kind).items():
                parts = {key: value.at_size(self.size) for key, value in spec if isinstance(value, SizedModel)}
                specs[name] = spec.model_copy(update=parts)
            sections[kind] = specs
        return self.at_size(self.size).model_copy(update=sections)

    def check_parts(self) -> None:
        """Check what only a complete recipe can tell: encoders that fit their modality, names in `training.parts`.

        Raises:
            RecipeError: with the path of the first key that does not fit.
        """
        for name, spec in self.inputs.items():
            if spec.encoder is None or spec.modality is None:
                continue
            reads = spec.encoder.component.modality  # type: ignore[attr-defined]
            if reads != spec.modality.name:
                raise RecipeError(
                    f"inputs.{name}.encoder",
                    f"{spec.encoder.name!r} reads {reads}, but this input is {spec.modality.name}",
                )
        modalities = {name: spec.modality.name for name, spec in self.inputs.items() if spec.modality is not None}
        for place, options in enumerate(self.objectives):
            try:
                options.component.check_options(options, modalities)  # type: ignore[attr-defined]
            except RecipeError as error:
                raise error.with_prefix(f"objectives.{place}") from None
        if self.task_tokens and self.outputs:
            self._check_task_tokens()
        known = self.part_names()
        for part in self.training.param_groups:
            if part not in known:
                raise RecipeError(f"training.parts.{part}", f"there is no such part; {did_you_mean(part, known)}")

    def _check_task_tokens(self) -> None:
        """Raises RecipeError where the fusion cannot be told which output is asked for."""
        if self.fusion is not None and self.fusion.component.level != "feature":  # type: ignore[attr-defined]
            raise RecipeError(
                "task_tokens",
                f"with the fusion {self.fusion.name!r} each input decides by itself, and a token alone has nothing to "
                "decide by; name a feature-level fusion, or leave it out",
            )
        if TASK_INPUT in self.inputs:
            raise RecipeError(f"inputs.{TASK_INPUT}", "task_tokens are an input of this name; rename yours")

    @property
    def privileged(self) -> list[str]:
        """The inputs that only the training rows have."""
        return [name for name, spec in self.inputs.items() if spec.privileged]

    def only(self, names: list[str]) -> Recipe:
        """This recipe with some of its inputs, the training of their parts, and the objectives that do with them."""
        left_out = [name for name in self.inputs if name not in names]
        parts = {
            path: value
            for path, value in self.training.param_groups.items()
            if not any(path in (f"inputs.{name}", f"inputs.{name}.encoder") for name in left_out)
        }
        training = self.training.model_copy(update={"parts": parts})
        kept = {name: self.inputs[name] for name in names}
        modalities = {name: spec.modality.name for name, spec in kept.items() if spec.modality is not None}
        objectives = [options for options in self.objectives if _serves(options, modalities)]
        return self.model_copy(update={"inputs": kept, "training": training, "objectives": objectives})

    def part_names(self) -> list[str]:
        """Recipe paths of the trainable parts, for `training.parts`."""
        inputs = [path for name in self.inputs for path in (f"inputs.{name}", f"inputs.{name}.encoder")]
        objectives = [f"objectives.{place}" for place in range(len(self.objectives))]
        return [*inputs, "fusion", *(f"outputs.{name}" for name in self.outputs), *objectives]

    @property
    def fuses(self) -> bool:
        """Whether anything reads what a fusion makes of the inputs."""
        return bool(self.outputs) or any(options.component.uses_fusion for options in self.objectives)  # type: ignore[attr-defined]


def _serves(options: Any, modalities: dict[str, str]) -> bool:
    """Whether an objective can do with these inputs, by name and modality."""
    try:
        options.component.check_options(options, modalities)
    except RecipeError:
        return False
    return True


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping in a YAML or JSON file.

    Raises:
        RecipeError: it is not there, not readable, or not a mapping.
    """
    if not path.is_file():
        raise RecipeError("", f"there is no recipe file {path}")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))  # JSON is YAML
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError("", f"{path} is neither YAML nor JSON: {error}") from None
    if not isinstance(values, dict):
        raise RecipeError("", f"{path} must hold a mapping with keys such as inputs, fusion, outputs")
    return values
