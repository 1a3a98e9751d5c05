"""The size of a model: the numbers of its networks and estimators, and their bytes in files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polymodal.checkpoint.shared_weights import num_bytes, without_copies
from polymodal.model.model_files import state_dict_of

if TYPE_CHECKING:
    from polymodal.estimators.base import EstimatorState
    from polymodal.model.model import Model


def weights_bytes(model: Model) -> int:
    """The bytes of all weights in the files of the model, with the arrays and texts of its estimators and features."""
    network = model.network if model.has_network else None
    found = num_bytes(without_copies(model.weight_format.to_file(state_dict_of(network, model.ensemble)))[0])
    if model.ensemble is None:
        return found
    arrays = [array for state in _states(model) for array in state.arrays.values()]
    arrays += list(model.ensemble.features.state(model.ensemble.read_inputs()).values())
    texts = [text for state in _states(model) for text in state.texts.values()]
    return found + sum(array.nbytes for array in arrays) + sum(len(text.encode()) for text in texts)


def count_numbers(model: Model) -> int:
    """The parameters of the networks and the numbers in the arrays of the estimators. Trees are texts and not
    counted."""
    networks = [model.network] if model.has_network else []
    if model.ensemble is not None and len(model.ensemble.networks) > 1:
        networks = list(model.ensemble.networks)
    count = sum(parameter.numel() for network in networks for parameter in network.parameters())
    return count + sum(array.size for state in _states(model) for array in state.arrays.values())


def _states(model: Model) -> list[EstimatorState]:
    members = () if model.ensemble is None else model.ensemble.members
    return [estimator.save() for member in members for estimator in member.estimators.values()]
