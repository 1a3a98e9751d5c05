"""The facts of a run that decide which options have an effect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from polymodal.core.registry import find
from polymodal.recipe.recipe import OutputSpec, Recipe

Workflow = Literal["fit", "pretrain", "cross_validate", "tune", "estimator"]


@dataclass(frozen=True)
class RunContext:
    """What a run has beside its options.

    recipe: the complete recipe
    given: the recipe as the user wrote it
    data_sets: the number of tables for training
    has_validation, has_test: whether a table is given for this split
    column_validates: whether data.split.column, if it is set, assigns rows to validation
    writes_files: whether there is a model directory
    is_stored: whether the training rows are those of a store of prepared rows
    """

    recipe: Recipe
    given: Recipe
    workflow: Workflow = "fit"
    data_sets: int = 1
    has_validation: bool = False
    has_test: bool = False
    column_validates: bool = True
    writes_files: bool = True
    is_stored: bool = False

    def has_modality(self, *modalities: str) -> bool:
        """Whether an input has one of the modalities."""
        found = (spec.modality for spec in self.recipe.inputs.values())
        return any(one is not None and one.name in modalities for one in found)

    @property
    def outputs(self) -> dict[str, OutputSpec]:
        """The outputs; for `pretrain`, those of a recipe that it shares with `fit`."""
        return self.recipe.outputs or self.given.outputs

    @property
    def num_losses(self) -> int:
        """The number of outputs and objectives."""
        return len(self.outputs) + len(self.recipe.objectives)

    @property
    def draws_validation(self) -> bool:
        """Whether validation rows are drawn from the training table."""
        return not self.has_validation and (self.recipe.data.split.column is None or not self.column_validates)

    @property
    def draws_test(self) -> bool:
        """Whether test rows are drawn from the training table."""
        return not self.has_test and self.recipe.data.split.column is None and self.workflow in ("fit", "pretrain")

    @property
    def draws_rows(self) -> bool:
        """Whether a split or folds are drawn at random."""
        test = self.draws_test and self.recipe.data.split.test_size > 0
        return test or self.draws_validation or self.workflow in ("cross_validate", "tune")

    @property
    def has_single_classification(self) -> bool:
        """Whether the classes of the only output can be the strata of a split."""
        specs = list(self.outputs.values())
        if len(specs) != 1 or len(specs[0].columns) != 1:
            return False
        return specs[0].task is None or specs[0].task.name == "classification"

    @property
    def has_frozen_part(self) -> bool:
        """Whether the lowest layers of an encoder are not trained."""
        groups = self.recipe.training.param_groups
        for name, spec in self.recipe.inputs.items():
            paths = {f"inputs.{name}", f"inputs.{name}.encoder"} & groups.keys()
            frozen = any(groups[path].freeze for path in paths)
            parts = [spec.encoder, getattr(spec.encoder, "frame_encoder", None)]
            fixed = spec.encoder is not None and spec.encoder.component.num_fit_items  # type: ignore[attr-defined]
            if frozen or fixed or any(getattr(part, "fine_tuning", "full") != "full" for part in parts):
                return True
        return False

    @property
    def has_augmented_input(self) -> bool:
        """Whether a modality changes its items at random."""
        return any(getattr(spec.modality, "has_augmentation", False) for spec in self.recipe.inputs.values())

    @property
    def has_teacher(self) -> bool:
        """Whether the predictions of another model are targets."""
        return self.recipe.training.distillation.teacher is not None or bool(self.recipe.privileged)

    @property
    def has_probabilities(self) -> bool:
        """Whether a target has classes or labels."""
        tasks = (spec.task for spec in self.outputs.values() if spec.task is not None)
        return any(find("task", one.name).space in ("categorical", "binary") for one in tasks)

    @property
    def uses_preset(self) -> bool:
        """Whether an encoder is the one that `pretrained` names."""
        encoders = [spec.encoder for spec in self.recipe.inputs.values()]
        parts = [part for one in encoders for part in (one, getattr(one, "frame_encoder", None))]
        return any(getattr(part, "checkpoint", None) == self.recipe.pretrained for part in parts)
