"""Explanations of the predictions of a model for the rows of a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polymodal.core.errors import RecipeError, did_you_mean
from polymodal.data.partition import Split
from polymodal.data.table.cell_errors import CellErrors, warn_cell_errors
from polymodal.data.table.table import Table
from polymodal.explanation.counterfactuals import Counterfactuals, counterfactuals
from polymodal.explanation.explained_value import ExplainedValue
from polymodal.explanation.input_contributions import BLOCK_ROWS, InputContributions, input_contributions
from polymodal.explanation.row_explanations import Explanations, Method, explain_blocks
from polymodal.recipe.recipe import Recipe

if TYPE_CHECKING:
    from polymodal.explanation.member_terms import MemberTerms
    from polymodal.inference.ensemble_predictor import FittedEnsemble, PredictsSplits


def explain_inputs(
    predictor: PredictsSplits, table: Table, explained: ExplainedValue, notes: list[str], strict: bool
) -> InputContributions:
    """The contributions of `Model.contributions`."""
    cell_errors = CellErrors(strict)
    preparation = predictor.preparation
    blocks = preparation.blocks(table, cell_errors, size=BLOCK_ROWS)
    splits = (Split.all_rows(preparation.prepare_block(block)) for block in blocks)
    found = input_contributions(predictor, splits, explained, notes)
    warn_cell_errors(cell_errors.errors)
    return found


def explained_input(recipe: Recipe, input: str | None) -> str:
    """The input whose parts are explained.

    Raises:
        RecipeError: there is no such input, or there are several and none is named.
    """
    if input is None and len(recipe.inputs) > 1:
        raise RecipeError("input", f"the model has several inputs; name one of {', '.join(map(repr, recipe.inputs))}")
    name = input or next(iter(recipe.inputs), "")
    if name not in recipe.inputs:
        raise RecipeError("input", f"unknown input {name!r}; {did_you_mean(name, recipe.inputs)}")
    return name


def explain_parts(
    predictor: PredictsSplits, table: Table, input: str, method: Method, explained: ExplainedValue, strict: bool
) -> Explanations:
    """The explanations of `Model.explain`."""
    cell_errors = CellErrors(strict)
    blocks = predictor.preparation.blocks(table, cell_errors, size=BLOCK_ROWS)
    found = explain_blocks(predictor, blocks, input, method, explained)
    warn_cell_errors(cell_errors.errors)
    return found


def explain_member(
    predictor: PredictsSplits, table: Table, output: str, member: str | None, strict: bool
) -> MemberTerms:
    """The terms of `Model.member_terms`."""
    from polymodal.explanation.member_terms import member_terms
    from polymodal.inference.ensemble_predictor import EnsemblePredictor

    if not isinstance(predictor, EnsemblePredictor):
        raise RecipeError("member", "the model is one network, which has no members; use contributions or explain")
    cell_errors = CellErrors(strict)
    blocks = predictor.preparation.blocks(table, cell_errors, size=BLOCK_ROWS)
    prepared = (predictor.preparation.prepare_block(block) for block in blocks)
    found = member_terms(predictor, prepared, output, member)
    warn_cell_errors(cell_errors.errors)
    return found


def row_counterfactuals(
    predictor: PredictsSplits, table: Table, output: str, notes: list[str], strict: bool
) -> Counterfactuals:
    """The counterfactuals of `Model.counterfactuals`."""
    cell_errors, preparation = CellErrors(strict), predictor.preparation
    blocks = preparation.blocks(table, cell_errors, size=BLOCK_ROWS)
    found = counterfactuals(predictor, (preparation.prepare_block(block) for block in blocks), output, notes)
    warn_cell_errors(cell_errors.errors)
    return found


def removal_notes(recipe: Recipe, ensemble: FittedEnsemble | None) -> list[str]:
    """Why predictions without some of the inputs may be unlike all that training saw, one sentence each."""
    if len(recipe.inputs) < 2:
        return []
    notes = []
    if (ensemble is None or ensemble.networks) and recipe.training.modality_dropout == 0:
        notes.append(
            "Training did not drop inputs (training.modality_dropout is 0): the network knows a missing input only "
            "from rows whose cells are missing, and its predictions without an input may be arbitrary."
        )
    if ensemble is not None and ensemble.members:
        names = ", ".join(member.name for member in ensemble.members)
        notes.append(
            f"The members without a network ({names}) were fitted without dropping inputs: they know a missing input "
            "only from rows whose cells are missing."
        )
    return notes
