"""A saved model as the starting point of a new one: its recipe, fitted preparation and weights."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polymodal.checkpoint.model_directory import MEMBERS, file_sha256, read_json, read_weights, verify_model_files
from polymodal.checkpoint.weight_format import WeightFormat
from polymodal.core.errors import ArtifactError, RecipeError
from polymodal.core.options import Options
from polymodal.core.registry import build, find
from polymodal.core.types import TOKEN_SPACES
from polymodal.preparation.preparation import Preparation
from polymodal.preparation.saved_state import SavedPreparation
from polymodal.pretrained.fine_tuning import FineTuningOptions
from polymodal.recipe.recipe import InputSpec, OutputSpec, Recipe
from polymodal.tasks.base import Task

INIT_FROM_KEY = "training.init_from"
#: Output spaces whose values depend on the fitted task: standardized numbers, tokens of texts and images.
FITTED_SPACES = ("real", *TOKEN_SPACES)
#: Options of fine-tuning that may differ from the source model, because they do not change the checkpoint weights.
FINE_TUNING_OPTIONS = frozenset(FineTuningOptions.model_fields) - {"quantization"}


@dataclass(frozen=True)
class SourceModel:
    """A saved model that initializes a new one.

    An input of the new recipe *matches* if the saved model has an input of the same name and modality. A matching input
    takes unset options, the fitted preparation and the weights of its tower from the saved model.

    manifest_sha256: the SHA-256 of the manifest, which covers all files of the model
    networks: number of its networks, which were trained on different folds; the first is the start
    """

    folder: Path
    recipe: Recipe
    manifest_sha256: str
    weight_format: WeightFormat
    networks: int = 1

    @classmethod
    def from_recipe(cls, recipe: Recipe) -> SourceModel | None:
        """The model in `training.init_from`; None if the key is unset.

        Raises:
            RecipeError: the directory holds no model, or one without a network.
            ArtifactError: the model was altered after it was saved, or has a later format.
        """
        if recipe.training.init_from is None:
            return None
        folder = Path(recipe.training.init_from)
        if not (folder / "manifest.json").is_file():
            state = "holds no model" if folder.is_dir() else "does not exist"
            raise RecipeError(INIT_FROM_KEY, f"{folder} {state}: give a directory written by `fit` or `pretrain`")
        weight_format = verify_model_files(folder)
        networks = int(read_json(folder / MEMBERS)["networks"]) if (folder / MEMBERS).is_file() else 1
        if not networks:
            raise RecipeError(
                INIT_FROM_KEY,
                f"{folder} holds a model without a network, so there are no weights to start from; fit one with "
                "`members: []`",
            )
        recipe = Recipe.read(folder / "recipe.yaml")
        return cls(folder, recipe, file_sha256(folder / "manifest.json"), weight_format, networks)

    def weights(self) -> dict[str, Any]:
        """The weights by their names in the saved network, in fp32."""
        weights = self.weight_format.from_file(read_weights(self.folder))
        if self.networks == 1:
            return weights
        return {name.removeprefix("0."): one for name, one in weights.items() if name.startswith("0.")}

    # The recipe.

    def complete_recipe(self, recipe: Recipe) -> Recipe:
        """The recipe with unset `size` and `hidden_size` taken from the saved model.

        Raises:
            RecipeError: the recipe sets another `hidden_size`.
        """
        theirs = self.recipe
        if "hidden_size" in recipe.model_fields_set and recipe.hidden_size != theirs.hidden_size:
            raise RecipeError("hidden_size", self._conflict(recipe.hidden_size, theirs.hidden_size))
        size = recipe.size if "size" in recipe.model_fields_set else theirs.size
        return recipe.model_copy(update={"hidden_size": theirs.hidden_size, "size": size})

    def complete_input(self, name: str, spec: InputSpec) -> InputSpec | None:
        """The input with the options of the saved model; None if the saved model has no input of this name and
        modality.

        Raises:
            RecipeError: the recipe sets other options, or other columns for a modality that reads several columns.
        """
        theirs = self.recipe.inputs.get(name)
        if theirs is None or theirs.modality is None or theirs.encoder is None:
            return None
        if spec.modality is not None and spec.modality.name != theirs.modality.name:
            return None
        self._check_agreement(f"inputs.{name}.modality", spec.modality, theirs.modality)
        self._check_agreement(f"inputs.{name}.encoder", spec.encoder, theirs.encoder)
        if find("modality", theirs.modality.name).many_columns and spec.columns != theirs.columns:
            raise RecipeError(f"inputs.{name}.columns", self._conflict(spec.columns, theirs.columns))
        encoder = theirs.encoder
        if isinstance(spec.encoder, FineTuningOptions) and "fine_tuning" in spec.encoder.model_fields_set:
            encoder = encoder.model_copy(
                update={option: getattr(spec.encoder, option) for option in FINE_TUNING_OPTIONS}
            )
        return spec.model_copy(update={"modality": theirs.modality, "encoder": encoder})

    def input_of_column(self, column: str) -> InputSpec | None:
        """The input of the saved model that has the name of this column and reads only this column."""
        theirs = self.recipe.inputs.get(column)
        return theirs if theirs is not None and theirs.columns == [column] else None

    def order_inputs(self, inputs: dict[str, InputSpec]) -> dict[str, InputSpec]:
        """Inferred inputs; those of the saved model come first, in its order."""
        first = {name: inputs[name] for name in self.recipe.inputs if name in inputs}
        return first | inputs

    def complete_output(self, name: str, spec: OutputSpec) -> OutputSpec:
        """The output with unset task and decoder options taken from the saved model, if the set options agree."""
        theirs = self.recipe.outputs.get(name)
        if theirs is None or theirs.task is None or theirs.decoder is None or not _agrees(spec.task, theirs.task):
            return spec
        decoder = theirs.decoder if _agrees(spec.decoder, theirs.decoder) else spec.decoder
        return spec.model_copy(update={"task": theirs.task, "decoder": decoder})

    def fusion(self, inputs: Collection[str]) -> Options | None:
        """The fusion of the saved model, if it has the same inputs."""
        same = list(inputs) == list(self.recipe.inputs)
        return self.recipe.fusion if same and self.recipe.uses_fusion else None

    def check_inputs(self, inputs: dict[str, InputSpec]) -> None:
        """Check that an input matches.

        A model without inputs may start from a model without inputs.

        Raises:
            RecipeError: no input matches.
        """
        if (inputs or self.recipe.inputs) and not any(self._matches(name, spec) for name, spec in inputs.items()):
            problem = f"no input matches {self.folder}, which has {_format_inputs(self.recipe.inputs)}"
            raise RecipeError(INIT_FROM_KEY, f"{problem}; this recipe has {_format_inputs(inputs)}. Use the same names")

    def matching_inputs(self, recipe: Recipe) -> list[str]:
        """The inputs of a complete recipe that match the saved model."""
        return [name for name, spec in recipe.inputs.items() if self._matches(name, spec)]

    def has_same_fusion(self, recipe: Recipe) -> bool:
        """Whether all inputs of a complete recipe match, and the fusion is the same."""
        theirs = self.recipe
        carried = self.matching_inputs(recipe) == list(recipe.inputs) == list(theirs.inputs)
        both = recipe.uses_fusion and theirs.uses_fusion and recipe.task_tokens == theirs.task_tokens
        return carried and both and recipe.fusion == theirs.fusion

    # The preparation.

    def load_modalities(self, preparation: Preparation) -> list[str]:
        """Load the fitted modalities of matching inputs; return the names of these inputs."""
        saved, names = SavedPreparation(self.folder), self.matching_inputs(preparation.recipe)
        for name in names:
            saved.load_modality(preparation.modalities[name], name, list(self.recipe.inputs).index(name))
            ours, theirs = preparation.recipe.inputs[name].columns, self.recipe.inputs[name].columns
            for column, source in zip(ours, theirs, strict=True):  # cells are read as the saved model learned them
                if source not in saved.state.columns:
                    raise ArtifactError(f"{self.folder / 'preparation.json'} has no kind of the column {source!r}")
                preparation.column_kinds[column] = saved.state.columns[source]
        return names

    def load_tasks(self, preparation: Preparation) -> None:
        """Take the fitted tasks of matching outputs from the saved model: scales of numbers, tokenizers."""
        for name in self._outputs_with_same_options(preparation):
            task = preparation.tasks[name]
            if task.space in FITTED_SPACES and self._task(name, task.columns).classes == task.classes:
                preparation.tasks[name] = self._task(name, task.columns)

    def matching_outputs(self, preparation: Preparation) -> list[str]:
        """The outputs with the same task, decoder, classes and fitted state as in the saved model, over the same
        fusion."""
        found = []
        for name in self._outputs_with_same_options(preparation):
            task = preparation.tasks[name]
            theirs = self._task(name, task.columns)
            same = theirs.classes == task.classes and theirs.output_shape == task.output_shape
            if same and (task.space not in FITTED_SPACES or theirs.save() == task.save()):
                found.append(name)
        return found

    def _outputs_with_same_options(self, preparation: Preparation) -> list[str]:
        recipe, theirs = preparation.recipe, self.recipe.outputs
        if not self.has_same_fusion(recipe):
            return []
        return [
            name
            for name, spec in recipe.outputs.items()
            if name in theirs and spec.task == theirs[name].task and spec.decoder == theirs[name].decoder
        ]

    def _task(self, name: str, columns: list[str]) -> Task:
        """The fitted task of the saved model."""
        task: Task = build("task", self.recipe.outputs[name].task, f"outputs.{name}", columns=columns)
        SavedPreparation(self.folder).load_task(task, name, list(self.recipe.outputs).index(name))
        return task

    def _matches(self, name: str, spec: InputSpec) -> bool:
        theirs = self.recipe.inputs.get(name)
        if theirs is None or theirs.modality is None or spec.modality is None:
            return False
        return spec.modality.name == theirs.modality.name

    def _check_agreement(self, path: str, given: Options | None, theirs: Options) -> None:
        """Raises RecipeError if a set option differs from the saved model."""
        if given is None:
            return
        if given.name != theirs.name:
            raise RecipeError(path, self._conflict(given.name, theirs.name))
        for option in type(given).model_fields:
            if _is_unset(given, option):
                continue
            own, other = getattr(given, option), getattr(theirs, option)
            if isinstance(own, Options) and isinstance(other, Options):
                self._check_agreement(f"{path}.{option}", own, other)
            elif own != other:
                raise RecipeError(f"{path}.{option}", self._conflict(own, other))

    def _conflict(self, ours: Any, theirs: Any) -> str:
        return (
            f"the recipe has {ours!r}, and {self.folder} has {theirs!r}; remove the option, or train without init_from"
        )


def _format_inputs(inputs: dict[str, InputSpec]) -> str:
    return ", ".join(f"{name} ({spec.modality.name})" for name, spec in inputs.items() if spec.modality) or "none"


def _is_unset(given: Options, option: str) -> bool:
    tuned = option in FINE_TUNING_OPTIONS and isinstance(given, FineTuningOptions)
    return option == "name" or option not in given.model_fields_set or tuned or getattr(given, option) is None


def _agrees(given: Options | None, theirs: Options) -> bool:
    if given is None:
        return True
    if given.name != theirs.name:
        return False
    options = [option for option in type(given).model_fields if not _is_unset(given, option)]
    return all(getattr(given, option) == getattr(theirs, option) for option in options)


def source_fingerprint(recipe: Recipe) -> str:
    """The SHA-256 of the manifest of the source model; "" without one."""
    if recipe.training.init_from is None:
        return ""
    manifest = Path(recipe.training.init_from) / "manifest.json"
    if not manifest.is_file():
        raise ArtifactError(f"{manifest} is missing")
    return file_sha256(manifest)
